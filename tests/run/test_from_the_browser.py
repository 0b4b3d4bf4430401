"""From somebody with a browser to a tuned model, by what docs/feedback.md says to type, with real Chromium."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path

import pytest
import torch
from PIL import Image

from feedback.paged import CHROMIUM, WITHOUT, opened, press, until
from feedback.test_page import REDS
from limner.cli import main
from limner.feedback.task import held_out
from limner.rewards.learned.folder import read_card
from run.miniature import Miniature
from run.test_feedback_page import tiny
from run.typed import annotating, typed

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=WITHOUT)
PAIRS = 10
FEW = "--design.kind linear --design.members 32 --calibration 0"
"""What the page says of few votes."""


def pictures(place: Path) -> None:
    """Write two folders of grey pictures under equal names; of the ten prompts seven are for learning."""
    named = [f"thing {first}{second}" for first in "abcdefgh" for second in "abcdefgh"]
    prompts = [name for name in named if not held_out(name)][:7] + [name for name in named if held_out(name)][:3]
    levels = torch.randperm(250, generator=torch.Generator().manual_seed(0))[: 2 * PAIRS].tolist()
    for side in ("a", "b"):
        (place / side).mkdir(parents=True)
        for prompt in prompts:
            Image.new("RGB", (24, 24), (levels.pop(),) * 3).save(place / side / f"{prompt}.png")


def test_ten_votes_in_a_browser_become_a_reward_and_a_model(
    miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    _, annotate, _, _, report, export, learn, _, train, *_ = typed("docs/feedback.md")
    assert FEW in (Path(__file__).parents[2] / "docs" / "feedback.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "my_pictures")
    with annotating(annotate, monkeypatch, capsys) as asking, playwright.sync_playwright() as driver:
        assert f"{PAIRS} pairs of {2 * PAIRS} items" in asking.said
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = opened(browser, f"{asking.url}/#{asking.tokens[0]}")
        while page.evaluate("Boolean(current)"):
            left, right = page.evaluate(REDS)
            press(page, "1" if left > right else "2" if right > left else "0")
            until(
                page,
                "current ? state.start !== null : document.getElementById('question').textContent.includes('Thank')",
            )
        until(page, "!stored().length")
        assert not page.troubles
        browser.close()
    assert main(report) == 0 and main(export) == 0
    rows = [json.loads(line) for line in Path("my_pictures/pairs.jsonl").read_text().splitlines()]
    assert len(rows) == PAIRS
    for row in rows:
        a, b = (Image.open(Path("my_pictures") / row[f"media_{side}"]).getpixel((0, 0)) for side in "ab")
        assert row["choice"] == ("a" if a > b else "b") and row["n"] == 1
    said = Path("report.html").read_text()
    assert all(word in said for word in ("Bradley-Terry", "annotator-1", "Davidson"))
    assert main([*learn, *shlex.split(FEW)]) == 0
    card = read_card(Path("runs/taste"))
    assert card.measured["overall"]["votes"] == 3 and card.measured["overall"]["accuracy"]["value"] > 0.5
    assert "Agreement with people" in Path("runs/taste/report.html").read_text()
    measuring = ["--evaluation.prompts", str(miniature.prompts), "--evaluation.seeds", "2", "--evaluation.every", "0"]
    measuring += ["--evaluation.ode_steps", "0", "--evaluation.reward", "learned(folder='runs/taste')"]
    small = [*tiny(miniature, steps=2), "--group_size", "2", "--prompts", str(miniature.prompts)]
    assert main([*train, *small, *measuring]) == 0
    log = [json.loads(line) for line in Path("runs/liked/metrics.jsonl").read_text().splitlines()]
    assert len(log) == 2 and all(math.isfinite(line["loss"]) for line in log)
    shown = Path("runs/liked/report.html").read_text()
    assert "<svg" in shown and "data:image" in shown and "learned" in shown
    summary = json.loads(Path("runs/liked/summary.json").read_text())
    assert summary
