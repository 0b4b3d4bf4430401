"""Questions whose answer is known: a picture against the same one, clearly spoilt."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageFilter

from limner.core.picture import decoded
from limner.feedback.task import PICTURES, Item, Task, file_hash

SPOILT = "spoilt"


def spoil(items: Sequence[Item], count: int) -> list[tuple[Item, Image.Image]]:
    """Return `count` pictures, spread evenly, with what becomes of each, clearly worse; clips are left out.

    Raises UserError for a picture that cannot be read.
    """
    pictures = [item for item in items if item.path.suffix.lower() in PICTURES]
    chosen = [pictures[i * len(pictures) // count] for i in range(min(count, len(pictures)))]
    return [(item, spoilt(decoded(item.path))) for item in chosen]


def gold(pairs: Sequence[tuple[Item, Image.Image]], folder: Path) -> tuple[list[Item], list[Task]]:
    """Return spoilt pictures, written to `folder`, and questions whose first item is better by construction."""
    made, tasks = [], []
    for item, picture in pairs:
        path = folder / f"{item.id}.png"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            picture.save(path)
        bad = Item(path.resolve(), item.prompt, SPOILT, file_hash(path), {"of": item.id})
        made.append(bad)
        tasks.append(Task("pair", item.prompt, (item.id, bad.id), better=0))
    return made, tasks


def spoilt(picture: Image.Image) -> Image.Image:
    """Return the picture blurred over a twelfth of its width and compressed at JPEG's quality 8: anybody sees it."""
    blurred = picture.convert("RGB").filter(ImageFilter.GaussianBlur(max(2.0, picture.width / 12)))
    stream = io.BytesIO()
    blurred.save(stream, "JPEG", quality=8)
    return Image.open(stream).convert("RGB")
