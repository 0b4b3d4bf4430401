"""Pictures with their prompts: a folder as datasets' `imagefolder` lays it out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from limner.core.errors import UserError
from limner.core.media import Images, Media, Videos
from limner.core.paths import path_of
from limner.core.picture import at_even_distances, decoded, decoded_clip
from limner.core.types import Prompt
from limner.data.lines import parse_object, pop_text, read_lines

MOST_READ = 256
"""Frames of a clip that are read to choose some of them."""


def read_pairs(folder: str | Path) -> list[tuple[Path, Prompt]]:
    """Return the pictures that FOLDER/metadata.jsonl names, each with its prompt.

    One JSON object a line: the picture's "file_name", and its text under "prompt" or "text". Every picture is decoded
    once and dropped, so that one that cannot be read is found here. Raises UserError, one line each, for a folder or
    file that is missing, a line that does not say both, and a picture that `read_picture` refuses.
    """
    folder = path_of(folder, "pictures")
    index = folder / "metadata.jsonl"
    if not index.is_file():
        raise UserError(f"pictures {folder}: no metadata.jsonl there; one line a picture, with file_name and prompt")
    pairs = []
    for number, line in read_lines(index, f"pictures {index}"):
        where = f"pictures {index}, line {number}"
        entry = parse_object(line, where)
        path = folder / pop_text(entry, ("file_name",), where)
        pairs.append((path, Prompt(pop_text(entry, ("prompt", "text"), where))))
        decoded(path)
    if not pairs:
        raise UserError(f"pictures {index}: the file names no picture")
    return pairs


def read_picture(path: Path | bytes, height: int, width: int) -> Float[Tensor, "3 height width"]:
    """Return a picture in [0, 1], upright, scaled to cover `height` x `width` and cut to its middle.

    Raises UserError for what `decoded` refuses.
    """
    cut = ImageOps.fit(decoded(path), (width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(cut, dtype=np.float32) / 255).permute(2, 0, 1)


def read_clip(path: Path | bytes, frames: int, height: int, width: int) -> Float[Tensor, "frames 3 height width"]:
    """Return the first `frames` of a clip, each as `read_picture` returns a picture.

    Raises UserError for what `decoded_clip` refuses, and for a clip that is shorter.
    """
    found = decoded_clip(path, frames)
    if len(found) < frames:
        named = f"of {len(path)} bytes" if isinstance(path, bytes) else path
        raise UserError(f"clip {named} has {len(found)} frames, and the model draws {frames}: give longer ones")
    cut = [np.asarray(ImageOps.fit(each, (width, height), Image.Resampling.LANCZOS)) for each in found]
    return torch.from_numpy(np.stack(cut).astype(np.float32) / 255).movedim(-1, 1)


def lasts_longer(path: Path | bytes, frames: int) -> bool:
    """Tell whether a clip has more than so many frames."""
    return len(decoded_clip(path, frames + 1)) > frames


def read_shown(path: Path | bytes, size: Sequence[int]) -> Float[Tensor, "*frames 3 height width"]:
    """Return a picture of height and width `size`, or a clip of frames, height and width."""
    return read_clip(path, *size) if len(size) == 3 else read_picture(path, *size)


def captioned(
    pairs: Sequence[tuple[NDArray[np.uint8], Sequence[str]]], fps: float | None
) -> tuple[Media, list[Prompt]]:
    """Return pictures [height, width, 3], or clips [frames, ...], with a caption each, as media and prompts.

    `fps` are the frames a second of clips, None of pictures.
    """
    levels = torch.from_numpy(np.stack([shown for shown, _ in pairs])).movedim(-1, -3)
    return Images(levels) if fps is None else Videos(levels, fps), [Prompt(text) for _, (text,) in pairs]


def read_media(pairs: Sequence[tuple[Path, Prompt]], size: Sequence[int]) -> tuple[Media, list[Prompt]]:
    """Return what `read_pairs` found, in one size, and the prompts."""
    return as_media([read_shown(path, size) for path, _ in pairs]), [prompt for _, prompt in pairs]


def read_saved(path: Path, frames: int | None) -> Float[Tensor, "*frames 3 height width"]:
    """Return a picture, or a clip of so many frames, in its own size, as media of ours were saved.

    Equal neighbours are one longer frame in a file, and where all stay equally long nothing tells it but their number.
    Raises UserError for what cannot be read, or has frames that so many cannot be made of.
    """
    found = [decoded(path)] if frames is None else decoded_clip(path, frames)
    if frames is not None and frames % len(found):
        raise UserError(f"clip {path} has {len(found)} frames, and was saved with {frames}")
    levels = torch.from_numpy(np.stack([np.asarray(each) for each in found])).movedim(-1, 1).float() / 255
    return levels[0] if frames is None else levels.repeat_interleave(frames // len(found), 0)


def read_frames(path: Path | bytes, most: int, edge: int) -> Float[Tensor, "frames 3 edge edge"]:
    """Return a picture as one frame, or at most so many of a clip at even distances, scaled and cut as `read_picture`.

    Of a clip the first `MOST_READ` frames are looked at. Raises UserError for what `decoded_clip` refuses.
    """
    found = decoded_clip(path, MOST_READ)
    some = [found[i] for i in at_even_distances(len(found), most)]
    cut = [np.asarray(ImageOps.fit(each, (edge, edge), Image.Resampling.LANCZOS)) for each in some]
    return torch.from_numpy(np.stack(cut).astype(np.float32) / 255).movedim(-1, 1)


def as_media(shown: Sequence[Float[Tensor, "*frames 3 height width"]], fps: float = 1.0) -> Media:
    """Return pictures or clips of one size, as `read_shown` gives them, as media; latents know no rate of a clip."""
    stacked = torch.stack(list(shown))
    return Images(stacked) if stacked.ndim == 4 else Videos(stacked, fps)
