"""What rewards that were learned from few votes, or from small pictures, say of new ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn import functional

from limner.core.media import Images
from limner.core.rng import fixed_share
from limner.core.types import Prompt
from limner.objectives.lapse import Lapse
from limner.reward_models import train_reward
from limner.rewards.learned.design import Kind
from limner.rewards.learned.folder import read_card
from limner.rewards.learned.reward import Learned
from run.test_reward_models import EDGE, LINEAR, SMALL, collection


@pytest.mark.parametrize("kind", ["small", "patches", "frozen", "linear"])
def test_pictures_are_judged_in_the_size_in_which_they_were_learned_from(kind: Kind, tmp_path: Path) -> None:
    """What is finer than that was never seen: a large picture is worth what it is worth made small."""
    votes = str(collection(tmp_path / "votes", 20, float))
    judge = Learned(str(train_reward(votes, tmp_path / "r", {**SMALL, "design.kind": kind, "epochs": 1})))
    large = torch.rand(3, 3, 4 * EDGE, 4 * EDGE, generator=torch.Generator().manual_seed(0))
    small = functional.interpolate(large, (EDGE, EDGE), mode="bilinear", antialias=True, align_corners=False)
    asked = [Prompt("a thing 7")] * 3
    torch.testing.assert_close(judge(Images(large), asked).score, judge(Images(small), asked).score)


def test_without_calibration_worths_stay_as_they_were_learned(tmp_path: Path) -> None:
    """Those of a posterior are in nats already, and a few votes that they were not learned from tell them little."""
    votes = collection(tmp_path / "votes", 40, float)
    found = train_reward(str(votes), tmp_path / "r", {**SMALL, **LINEAR, "calibration": 0.0})
    card = read_card(found)
    assert card.scale == (1.0,) and card.shared == (0.0,) and card.lapses == (Lapse(),)
    held = sum(fixed_share(f"a thing {i}") < 0.2 for i in range(40))
    assert f"learned from {40 - held} judgements" in card.about


def test_masks_are_said_not_to_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A reward looks at whole pictures, whatever a folder of masks says; without masks nothing is said."""
    for folder, level in (("chosen", 200), ("rejected", 50), ("mask", 255)):
        (tmp_path / "set" / folder).mkdir(parents=True)
        for i in range(60):
            Image.new("RGB", (EDGE, EDGE), (level, level, 4 * i)).save(tmp_path / "set" / folder / f"thing {i}a.png")
    train_reward(str(tmp_path / "set"), tmp_path / "one", SMALL | {"epochs": 1})
    assert "masks say where 60 of 60 pairs count, and do not count here" in capsys.readouterr().err
    (tmp_path / "set" / "mask").rename(tmp_path / "set" / "other")
    train_reward(str(tmp_path / "set"), tmp_path / "two", SMALL | {"epochs": 1})
    assert "mask" not in capsys.readouterr().err
