"""What cannot be read of the votes that a reward learns from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from limner.core.errors import UserError
from limner.reward_models import train_reward
from limner.rewards.learned.folder import read_card
from run.test_reward_models import SMALL, collection


def test_what_is_broken_stops_it_or_is_left_out_and_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A torn picture, one that is missing and a line that is no JSON: the rest teaches what it teaches alone."""
    how = SMALL | {"epochs": 1}
    pairs = collection(tmp_path / "votes", 120, float)
    rows = pairs.read_text().splitlines()
    whole = pairs.with_name("whole.jsonl")
    whole.write_text("\n".join(rows[3:]) + "\n")
    (pairs.parent / "0-b.png").write_bytes((pairs.parent / "0-b.png").read_bytes()[:40])
    (pairs.parent / "1-a.png").unlink()
    pairs.write_text("\n".join([*rows[:2], rows[2][:-5], *rows[3:]]) + "\n")
    with pytest.raises(UserError, match=r"pairs.jsonl, line 2: no picture .*1-a.png"):
        train_reward(str(pairs), tmp_path / "r", how)
    capsys.readouterr()
    found = train_reward(str(pairs), tmp_path / "r", how | {"broken": "skip"})
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out: ")]
    assert [re.sub(".*, line ([0-9]+): .*", r"\1", line) for line in told] == ["2", "3", "1"]
    assert "1-a.png" in told[0] and "0-b.png" in told[2]
    alone = train_reward(str(whole), tmp_path / "alone", how)
    assert read_card(found).weights == read_card(alone).weights
    assert read_card(found).measured == read_card(alone).measured
    for name in ("0-a.png", "0-b.png"):
        (pairs.parent / name).write_bytes(b"no picture")
    pairs.write_text(rows[0] + "\n")
    with pytest.raises(UserError, match="no preference is left: .*line 1: .*0-a.png"):
        train_reward(str(pairs), tmp_path / "s", how | {"broken": "skip"})
