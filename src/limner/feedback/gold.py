"""Questions whose answer is known: a picture against the same one, clearly spoilt, or one of another prompt."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from PIL import Image, ImageFilter

from limner.core.paths import whole
from limner.core.picture import paced
from limner.feedback.task import PICTURES, Item, Task, file_hash

Known: TypeAlias = Literal["spoilt", "misplaced", "both"]
"""How a picture is made worse, as anybody sees who looks, or reads."""
SPOILT, MISPLACED = "spoilt", "misplaced"
MOST_READ, MOST_FRAMES = 256, 24
"""Frames of an animated picture that are read, and of these, at even distances, that a spoilt one has."""
WORD = re.compile(r"\w{3,}")
"""What a prompt asks for is in words of three letters and more."""


@dataclass(frozen=True)
class Spoilt:
    """What becomes of an item: one picture, or the frames of an animated one, and how long each stays, in ms."""

    item: Item
    frames: Sequence[Image.Image]
    pause: float

    def save(self, folder: Path) -> Path:
        """Write it, unless that was done, and return the file, which is whole or absent."""
        path = folder / f"{self.item.id}.{'webp' if self.frames[1:] else 'png'}"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            first, *rest = self.frames
            with whole(path) as part:
                if rest:
                    first.save(part, "WEBP", append_images=rest, save_all=True, duration=round(self.pause), loop=0)
                else:
                    first.save(part, "PNG")
        return path


def spoil(items: Sequence[Item], count: int) -> list[Spoilt]:
    """Return what becomes of `count` pictures, spread evenly, clearly worse; videos are left out.

    Of an animated picture that has more than `MOST_FRAMES` every second one stays twice as long, and so on. Raises
    UserError for a picture that cannot be read.
    """
    pictures = [item for item in items if item.path.suffix.lower() in PICTURES]
    chosen = [pictures[i * len(pictures) // count] for i in range(min(count, len(pictures)))]
    found = []
    for item in chosen:
        frames, pause = paced(item.path, MOST_READ)
        every = -(-len(frames) // MOST_FRAMES)
        found.append(Spoilt(item, [spoilt(frame) for frame in frames[::every]], pause * every))
    return found


def gold(worse: Sequence[Spoilt], folder: Path) -> tuple[list[Item], list[Task]]:
    """Return spoilt pictures, written to `folder`, and questions whose first item is better by construction."""
    made, tasks = [], []
    for one in worse:
        path = one.save(folder)
        bad = Item(path.resolve(), one.item.prompt, SPOILT, file_hash(path), {"of": one.item.id, **seen_of(one.item)})
        made.append(bad)
        tasks.append(Task("pair", one.item.prompt, (one.item.id, bad.id), better=0))
    return made, tasks


def seen_of(item: Item) -> dict[str, object]:
    """Return the facts of an item that another made of it has too: how fast it is, and whether it is to be hidden."""
    return {name: item.facts[name] for name in ("fps", "sensitive") if name in item.facts}


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
            bad = Item(far.path, item.prompt, MISPLACED, far.sha256, {"of": far.id, **seen_of(far)})
            made.append(bad)
            tasks.append(Task("pair", item.prompt, (item.id, bad.id), better=0))
    return made, tasks


def spoilt(picture: Image.Image) -> Image.Image:
    """Return the picture blurred over a twelfth of its width and compressed at JPEG's quality 8: anybody sees it."""
    blurred = picture.convert("RGB").filter(ImageFilter.GaussianBlur(max(2.0, picture.width / 12)))
    stream = io.BytesIO()
    blurred.save(stream, "JPEG", quality=8)
    return Image.open(stream).convert("RGB")
