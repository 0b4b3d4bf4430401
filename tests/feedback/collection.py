"""Small collections for the tests of feedback."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from limner.feedback.answer import Answer
from limner.feedback.board import Assignment
from limner.feedback.choosing import Asking
from limner.feedback.ledger import Ledger
from limner.feedback.sources import gather


def two_folders(root: Path, count: int) -> Path:
    """Write pictures of equal names in two folders: of `good` the brightness is 200, of `bad` 50."""
    for source, level in (("bad", 50), ("good", 200)):
        (root / source).mkdir(parents=True)
        for i in range(count):
            pixels = np.full((24, 24, 3), level, np.uint8)
            pixels[0, 0] = i % 256, i // 256, 0  # no two files are the same
            Image.fromarray(pixels).save(root / source / f"prompt {i}a.png")
    return root


def ledger_of(root: Path, count: int = 12, **asking: object) -> Ledger:
    """Return a new ledger over two folders of pictures."""
    place = two_folders(root / "set", count)
    ledger = Ledger(f"sqlite:///{root / 'votes.db'}", Asking(**asking))
    ledger.add(*gather(place))
    return ledger


def vote(assignment: Assignment, choice: str, key: str = "", type: str = "vote") -> Answer:
    """Return an answer as the page sends it."""
    payload = {"choices": {"overall": choice}} if type == "vote" else {}
    return Answer(key or f"key-{assignment.id:08d}-{type}", assignment.id, type, payload, 1500, 1400, "1280x720")


def side_of(ledger: Ledger, assignment: Assignment, source: str) -> str:
    """Return on which side the picture of a source is."""
    items = ledger.board.tasks[assignment.task].items
    shown = [ledger.board.items[items[place]].source for place in assignment.order]
    return ("left", "right")[shown.index(source)]
