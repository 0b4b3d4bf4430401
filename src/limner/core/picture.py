"""A picture from a file, whatever it is: as 8 bits of red, green and blue, upright, or refused with the reason."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from limner.core.errors import UserError
from limner.core.paths import LFS_ADVICE, LFS_POINTER

LEAD = ("MPO", "PSD")
"""Formats whose first picture is the picture: a photograph with its previews, a composite with its layers."""


def decoded(path: Path | bytes) -> Image.Image:
    """Return all pixels of a file, or of the bytes of one, as 8 bits of red, green and blue.

    What is transparent shows white; 16 bits become 8; CMYK is converted without a colour profile. Raises UserError for
    a file that is missing or damaged, more pixels than Pillow's limit against decompression bombs, numbers without a
    known range (floats, 32 bits), and several pictures in one file: which of an animation is meant is not ours to say.
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
