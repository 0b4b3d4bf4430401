"""Pictures with their prompts: a folder as datasets' `imagefolder` lays it out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from limner.core.errors import UserError
from limner.core.types import Prompt


def read_pairs(folder: str | Path) -> list[tuple[Path, Prompt]]:
    """Return the pictures that FOLDER/metadata.jsonl names, each with its prompt.

    One JSON object a line: the picture's "file_name", and its text under "prompt" or "text".
    Raises UserError, one line each, for a folder or file that is missing, and a line that says neither.
    """
    folder = Path(folder).expanduser()
    index = folder / "metadata.jsonl"
    if not index.is_file():
        raise UserError(f"pictures {folder}: no metadata.jsonl there; one line a picture, with file_name and prompt")
    pairs = []
    for number, line in enumerate(index.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        where = f"{index}, line {number}"
        try:
            entry = json.loads(line)
            path, text = folder / entry["file_name"], entry["prompt" if "prompt" in entry else "text"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise UserError(f"{where}: expected an object with file_name and prompt ({error})") from None
        if not path.is_file():
            raise UserError(f"{where}: no picture {path}")
        pairs.append((path, Prompt(str(text))))
    if not pairs:
        raise UserError(f"{index} names no picture")
    return pairs


def read_picture(path: Path, height: int, width: int) -> Float[Tensor, "3 height width"]:
    """Return a picture in [0, 1], scaled to cover `height` x `width` and cut to its middle."""
    try:
        with Image.open(path) as image:
            rgb = image.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise UserError(f"picture {path} cannot be read: {error}") from error
    scale = max(height / rgb.height, width / rgb.width)
    size = (max(width, round(rgb.width * scale)), max(height, round(rgb.height * scale)))
    rgb = rgb.resize(size, Image.Resampling.LANCZOS)
    left, top = (rgb.width - width) // 2, (rgb.height - height) // 2
    cut = np.asarray(rgb.crop((left, top, left + width, top + height)), dtype=np.float32)
    return torch.from_numpy(cut / 255).permute(2, 0, 1)
