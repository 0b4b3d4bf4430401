"""`limner reward show` and `limner serve-reward`, as typed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from limner import judges
from limner.cli import main


def test_a_card_with_its_best_and_worst_examples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cards" / "scenes.png"
    assert main(["reward", "show", "scenes + 0 * jpeg_size", "--count", "12", "--out", str(path)]) == 0
    printed = capsys.readouterr().out
    assert (
        "scenes\n  measures      1 if the picture satisfies its whole prompt" in printed and "\njpeg_size\n" in printed
    )
    assert f"best and worst of 12 pictures of scenes: {path}" in printed and Image.open(path).size[0] > 500


def test_a_judge_that_localises_shows_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, place = tmp_path / "detail.png", tmp_path / "detail-sharpness-detail.png"
    assert main(["reward", "show", "sharpness", "--count", "8", "--out", str(path)]) == 0
    assert f"bright where sharpness/detail is high: {place}" in capsys.readouterr().out
    assert Image.open(place).size == Image.open(path).size


NOBODY = "remote(url='http://127.0.0.1:9', timeout=1, tries=1)"
BAD = {
    ("reward", "show", "scnes"): "unknown reward 'scnes'; did you mean 'scenes'?",
    ("reward", "show", "rank(scenes)"): "the reward rank(scenes) compares a sample with its group",
    ("reward", "show", "scenes", "--world", "scnes"): "unknown world 'scnes'; did you mean 'scenes'?",
    (
        "reward",
        "show",
        "symmetry(axs=1)",
    ): "reward symmetry(axs=1): symmetry has no setting 'axs'; did you mean 'axis'?",
    ("reward", "hide", "scenes"): "argument VERB: invalid choice: 'hide'",
    ("serve-reward", "rank(scenes)"): "the reward rank(scenes) compares a sample with its group",
    ("serve-reward", "scenes", "--host", "0.0.0.0"): "host '0.0.0.0' can be reached from other machines",
    ("serve-reward", "scenes", "--token-env", "NO_SUCH_VARIABLE"): "--token-env NO_SUCH_VARIABLE: that environment",
}


@pytest.mark.parametrize("arguments", BAD, ids=" ".join)
def test_bad_requests(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(list(arguments)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"limner: {BAD[arguments]}")


def test_a_judge_that_cannot_be_reached_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reward", "show", NOBODY, "--count", "2"]) == 1
    assert f"limner: {NOBODY} judged none of 2 pictures of scenes" in capsys.readouterr().err


def test_a_judge_is_built_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One with weights would else hold them twice."""
    built: list[str] = []
    build = judges.judge_of
    monkeypatch.setattr(judges, "judge_of", lambda leaf: built.append(leaf.name) or build(leaf))
    monkeypatch.setattr("limner.serve.host.serve", lambda *_: None)
    assert main(["reward", "show", "sharpness", "--count", "2", "--out", str(tmp_path / "card.png")]) == 0
    assert main(["serve-reward", "contrast"]) == 0
    assert built == ["sharpness", "contrast"]


def heed_interrupts() -> None:
    """Background jobs of a script, and what they start, ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_reward_is_hosted_until_interrupted() -> None:
    command = [sys.executable, "-m", "limner", "serve-reward", "0.5 * scenes + jpeg_size", "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen(command, **pipes, preexec_fn=heed_interrupts) as host:
        try:
            assert host.stdout is not None
            line = host.stdout.readline()
            said = r"0\.5 \* scenes \+ jpeg_size at (http://127\.0\.0\.1:\d+) \(Ctrl-C ends it\)\n"
            found = re.fullmatch(said, line)
            assert found, line
            with urllib.request.urlopen(f"{found[1]}/healthz", timeout=30) as reply:
                assert reply.read() == b'{"ok":true}'
            host.send_signal(signal.SIGINT)
            host.communicate(timeout=30)
            assert host.returncode == 130
        finally:
            host.kill()  # on the way out a Popen waits, and a host does not end by itself
