"""What moves, on the page in a real browser: videos, and animated pictures."""

import pytest
import torch

from feedback.paged import CHROMIUM, WITHOUT, answered, opened, press, shown, until
from feedback.test_desk import hosted
from limner.core.media import Videos
from limner.feedback.choosing import Asking
from limner.feedback.ledger import Ledger
from limner.feedback.sources import gather

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=WITHOUT)


def test_clips_play_together_and_frame_by_frame(browser, tmp_path):
    pytest.importorskip("av", reason="clips are written by av")
    shade = torch.linspace(0, 1, 16)[None, :, None, None, None].expand(2, 16, 3, 64, 64)
    for source in ("a", "b"):
        (tmp_path / "set" / source).mkdir(parents=True)
    Videos(torch.stack([shade[0], shade[1].flip(0)]), fps=8.0).save(
        [tmp_path / "set" / each / "one.mp4" for each in "ab"]
    )
    ledger = Ledger(f"sqlite:///{tmp_path / 'votes.db'}", Asking(gold=0.0, repeat=0.0))
    ledger.add(*gather(tmp_path / "set"))
    times = "state.clips.map((clip) => clip.currentTime)"
    with hosted(ledger) as url:
        page = opened(browser, f"{url}/#{ledger.invite(1)[0][1]}")
        until(page, f"{times}.every((t) => t > 0)")
        until(page, "state.clips.every((clip) => clip.seen < Infinity)")  # how long a frame lasts was seen
        page.keyboard.press(" ")
        until(page, "state.clips.every((clip) => clip.paused)")
        first, second = page.evaluate(times)
        assert abs(first - second) < 0.15
        page.keyboard.press(" ")
        until(page, "state.clips.every((clip) => !clip.paused)")
        page.keyboard.press(".")
        before = page.evaluate(times)
        page.keyboard.press(".")
        assert page.evaluate(times) == pytest.approx([t + 1 / 8 for t in before], abs=1e-4)
        page.keyboard.press(",")
        assert page.evaluate(times) == pytest.approx(before, abs=1e-4)
        press(page, "1")
        assert len(answered(page, ledger, 1)) == 1 and not page.troubles


def bar(frames, size=64):
    """Return a clip in which a bright bar stands frame after frame a column further."""
    clip = torch.zeros(1, frames, 3, size, size, dtype=torch.uint8)
    for t in range(frames):
        clip[0, t, :, :, t] = 255
    return clip


def animated(root, count=1):
    """Write pairs of animated pictures: of `slow` a frame stays twice as long as of `fast`."""
    for source, fps in (("fast", 10.0), ("slow", 5.0)):
        (root / source).mkdir(parents=True)
        for n in range(count):
            clip = bar(12)
            clip[0, :, :, 0, 60:] = 20 * n  # no two files are the same
            Videos(clip, fps).save([root / source / f"clip {n}.webp"])
    return root


COLUMNS = """state.clips.map(({ canvas }) => {
  const row = canvas.getContext("2d").getImageData(0, 9, 64, 1).data;
  return row.findIndex((level, i) => i % 4 === 0 && level > 200) / 4;
})"""
"""Where the bar stands in what is shown."""


def test_animated_pictures_play_together_and_frame_by_frame(browser, tmp_path):
    """Each frame that is drawn is the one that was asked for, by where the bar stands in it."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'votes.db'}", Asking(gold=0.0, repeat=0.0))
    ledger.add(*gather(animated(tmp_path / "set")))
    with hosted(ledger) as url:
        page = opened(browser, f"{url}/#{ledger.invite(1)[0][1]}")
        until(page, "state.clips.every((clip) => clip.at > 2)")
        at = {tuple(lasts): at for lasts, at in page.evaluate("state.clips.map((clip) => [clip.lasts, clip.at])")}
        fast, slow = at[(100,) * 12], at[(200,) * 12]
        assert abs(fast - 2 * slow) % 12 in (0, 1, 2, 10, 11)  # one time, of which either shows its frame
        page.keyboard.press(" ")
        until(page, "state.clips.every((clip) => clip.paused)")
        page.evaluate("Promise.all(state.clips.map((clip) => clip.restart()))")
        assert page.evaluate(COLUMNS) == [0, 0]
        for key, column in (*[(".", n) for n in range(1, 12)], (".", 11), (",", 10), (",", 9)):
            page.keyboard.press(key)
            page.evaluate("Promise.all(state.clips.map((clip) => clip.drawing))")
            assert page.evaluate(COLUMNS) == [column, column]
        assert page.locator("#on").is_visible() and page.locator("#play").is_visible()
        page.keyboard.down("Tab")
        assert page.evaluate("document.querySelector('.frame').lastElementChild.firstElementChild") is not None
        assert page.locator(".frame >> nth=0 >> canvas >> visible=true").count() == 1
        page.keyboard.up("Tab")
        press(page, "1")
        assert len(answered(page, ledger, 1)) == 1 and not page.troubles
        page.keyboard.press("z")
        shown(page)
        until(page, "state.clips.length === 2 && state.clips.every((clip) => clip.at > 1)")  # it plays again
        press(page, "2")
        assert not page.troubles
