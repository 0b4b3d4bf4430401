"""Pictures with their prompts: a folder as datasets' `imagefolder` lays it out."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from limner.core.errors import UserError
from limner.core.media import Images, Media, Videos
from limner.core.paths import LFS_ADVICE, LFS_POINTER, path_of
from limner.core.types import Prompt
from limner.data.lines import parse_object, pop_text, read_lines

LEAD = ("MPO", "PSD")
"""Formats whose first picture is the picture: a photograph with its previews, a composite with its layers."""


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

    What is transparent shows white; 16 bits become 8; CMYK is converted without a colour profile. Raises UserError for
    a file that is missing or damaged, more pixels than Pillow's limit against decompression bombs, numbers without a
    known range (floats, 32 bits), and several pictures in one file: which of an animation is meant is not ours to say.
    """
    cut = ImageOps.fit(decoded(path), (width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(cut, dtype=np.float32) / 255).permute(2, 0, 1)


def decoded(path: Path | bytes) -> Image.Image:
    """Return all pixels of a file, or of the bytes of one, as 8 bits of red, green and blue.

    Raises UserError as `read_picture` does.
    """
    try:
        if isinstance(path, Path) and path.exists() and not (path.is_file() or path.is_dir()):  # a pipe never ends
            raise ValueError("not a plain file")
        with io.BytesIO(path) if isinstance(path, bytes) else path.open("rb") as file, warnings.catch_warnings():
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                raise ValueError(LFS_ADVICE)
            file.seek(0)
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return _rgb(Image.open(file))
    except UnidentifiedImageError as error:
        raise UserError(f"picture {_named(path)} cannot be read: it holds no picture of a kind known here") from error
    except Exception as error:  # for damaged files Pillow raises errors of a dozen kinds
        reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        raise UserError(f"picture {_named(path)} cannot be read: {reason or type(error).__name__}") from error


def _named(path: Path | bytes) -> Path | str:
    return f"of {len(path)} bytes" if isinstance(path, bytes) else path


def captioned(
    pairs: Sequence[tuple[NDArray[np.uint8], Sequence[str]]], fps: float | None
) -> tuple[Media, list[Prompt]]:
    """Return pictures [height, width, 3], or clips [frames, ...], with a caption each, as media and prompts.

    `fps` are the frames a second of clips, None of pictures.
    """
    levels = torch.from_numpy(np.stack([shown for shown, _ in pairs])).movedim(-1, -3)
    return Images(levels) if fps is None else Videos(levels, fps), [Prompt(text) for _, (text,) in pairs]


def read_media(pairs: Sequence[tuple[Path, Prompt]], height: int, width: int) -> tuple[Media, list[Prompt]]:
    """Return the pictures that `read_pairs` found, in one size, and their prompts."""
    pictures = torch.stack([read_picture(path, height, width) for path, _ in pairs])
    return Images(pictures), [prompt for _, prompt in pairs]


def as_media(pictures: Sequence[Float[Tensor, "3 height width"]]) -> Media:
    """Return pictures of one size, as `read_picture` gives them, as media."""
    return Images(torch.stack(list(pictures)))


def _rgb(image: Image.Image) -> Image.Image:
    """Return a picture upright, on white where it is transparent, with 8 bits of red, green and blue."""
    if image.format not in LEAD and _has_second(image):
        raise ValueError(f"it holds several pictures ({image.format}); save the one that is meant as a file of its own")
    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    image = ImageOps.exif_transpose(image)
    if sixteen:
        wide = np.asarray(image)
        shown = np.where(wide == image.info.get("transparency"), 255, (wide / 257).round())
        return Image.fromarray(shown.astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"the range of its numbers is unknown (mode {image.mode}); save it with 8 or 16 bits a colour")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _has_second(image: Image.Image) -> bool:
    try:
        image.seek(1)
    except EOFError:
        return False
    image.seek(0)
    return True
