"""Questions whose answer is known: a picture against the same one, clearly spoilt, or one of another prompt."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from PIL import Image, ImageFilter

from limner.core.picture import decoded
from limner.feedback.task import PICTURES, Item, Task, file_hash

Known: TypeAlias = Literal["spoilt", "misplaced", "both"]
"""How a picture is made worse, as anybody sees who looks, or reads."""
SPOILT, MISPLACED = "spoilt", "misplaced"
WORD = re.compile(r"\w{3,}")
"""What a prompt asks for is in words of three letters and more."""


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


def misplaced(items: Sequence[Item], count: int) -> tuple[list[Item], list[Task]]:
    """Return pictures of other prompts, and `count` questions at most whose first item is the one of the prompt.

    Whoever looks at the pictures alone answers half of them wrong, however good these are. A picture meets one whose
    prompt has no word of `WORD` in common with its own; where no prompt is so far from another, nothing is asked.
    """
    meant = [(item, set(WORD.findall(item.prompt.lower()))) for item in items]
    meant = [(item, words) for item, words in meant if words]
    made, tasks = [], []
    asked = min(count, len(meant))
    for place in (i * len(meant) // asked for i in range(asked)):
        item, words = meant[place]
        others = (meant[(place + step) % len(meant)] for step in range(1, len(meant)))
        far = next((other for other, theirs in others if not words & theirs and other.moves == item.moves), None)
        if far is not None:
            seen = {name: far.facts[name] for name in ("fps", "sensitive") if name in far.facts}
            bad = Item(far.path, item.prompt, MISPLACED, far.sha256, {"of": far.id, **seen})
            made.append(bad)
            tasks.append(Task("pair", item.prompt, (item.id, bad.id), better=0))
    return made, tasks


def spoilt(picture: Image.Image) -> Image.Image:
    """Return the picture blurred over a twelfth of its width and compressed at JPEG's quality 8: anybody sees it."""
    blurred = picture.convert("RGB").filter(ImageFilter.GaussianBlur(max(2.0, picture.width / 12)))
    stream = io.BytesIO()
    blurred.save(stream, "JPEG", quality=8)
    return Image.open(stream).convert("RGB")
