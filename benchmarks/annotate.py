"""Draw docs/results/annotate.png: the page of `limner annotate` at two widths, a question half answered.

    python benchmarks/annotate.py [--out FILE]

Needs Chromium and Playwright, as the page's tests do. Shown are renders of the scenes world, one with its count wrong:
a mark was painted on that one, and the word was pressed that it does not show.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
import threading
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from limner.feedback.choosing import Asking
from limner.feedback.desk import app
from limner.feedback.ledger import Ledger
from limner.feedback.sources import gather
from limner.serve.host import listen, server
from limner.worlds.scenes.grammar import parse
from limner.worlds.scenes.render import render

ASKED, WRONG = "three yellow triangles", "two yellow triangles"
PAIRS = 50
SIZES = ((1120, 1130), (390, 1130))
GAP = 12


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results/annotate.png"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shots = photographed(Path(folder))
    sheet = Image.new("RGB", (sum(shot.width for shot in shots) + GAP, shots[0].height), "white")
    sheet.paste(shots[0], (0, 0))
    sheet.paste(shots[1], (shots[0].width + GAP, 0))
    sheet.save(options.out, optimize=True)
    print(options.out)


def photographed(folder: Path) -> list[Image.Image]:
    """Return the page at both sizes."""
    for source, text in (("tuned", ASKED), ("base", WRONG)):
        (folder / "set" / source).mkdir(parents=True)
        for i in range(PAIRS):
            picture = render(parse(text), np.random.default_rng((i, len(source))))
            Image.fromarray(picture).save(folder / "set" / source / f"{i:02d}.png")
            (folder / "set" / source / f"{i:02d}.txt").write_text(ASKED)
    ledger = Ledger(f"sqlite:///{folder / 'votes.db'}", Asking(gold=0.0, repeat=0.0))
    ledger.add(*gather(folder / "set"))
    with listen("127.0.0.1", 0, "") as listener:
        host = server(app(ledger, "nobody"))
        thread = threading.Thread(target=host.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        link = f"http://127.0.0.1:{listener.getsockname()[1]}/#"
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            shots = []
            for (width, height), (_, token) in zip(SIZES, ledger.invite(len(SIZES)), strict=True):
                page = browser.new_page(viewport={"width": width, "height": height})
                page.goto(link + token)
                shots.append(half_answered(page, ledger))
            browser.close()
        host.should_exit = True
        thread.join(10)
    return shots


def half_answered(page: Page, ledger: Ledger) -> Image.Image:
    """Return a picture of the page after four answers, when something was said of the fifth question."""
    for _ in range(4):
        id = now(page)
        page.keyboard.press("1")
        while page.evaluate(f"!current || current.id === {id} || stored().length"):
            page.wait_for_timeout(50)
    given = ledger.board.assignments[now(page)]
    items = ledger.board.tasks[given.task].items
    [side] = [i for i, place in enumerate(given.order) if ledger.board.items[items[place]].source == "base"]
    page.keyboard.press("a")
    box = page.locator(".frame").nth(side).bounding_box()
    assert box is not None
    for i in range(9):
        x, y = box["x"] + box["width"] * (0.72 + 0.012 * i), box["y"] + box["height"] * (0.66 + 0.08 * np.sin(i / 2))
        page.mouse.move(x, float(y))
        if not i:
            page.mouse.down()
    page.mouse.up()
    page.keyboard.press("a")
    page.click("#prompt button >> nth=0")
    page.select_option("#strength", "2")
    page.fill("#why", "one is missing")
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.wait_for_timeout(300)
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def now(page: Page) -> int:
    """Return which question is on the screen, once it is."""
    while not page.evaluate("current && state && state.start !== null"):
        page.wait_for_timeout(50)
    id: int = page.evaluate("current.id")
    return id


if __name__ == "__main__":
    main()
