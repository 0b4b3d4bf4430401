"""A picture or a clip from a file, whatever it is: 8 bits of red, green and blue, upright, or the reason why not."""

from __future__ import annotations

import io
import itertools
import math
import statistics
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

from limner.core.errors import UserError
from limner.core.paths import LFS_ADVICE, LFS_POINTER

UNEVEN = 1.5
"""Longest over shortest stay of a video's frames above which they are not meant to be equal."""
LEAD = ("MPO", "PSD")
"""Formats whose first picture is the picture: a photograph with its previews, a composite with its layers."""


def decoded(path: Path | bytes) -> Image.Image:
    """Return all pixels of a file, or of the bytes of one, as 8 bits of red, green and blue.

    What is transparent shows white; 16 bits become 8; CMYK is converted without a colour profile. Raises UserError for
    a file that is missing or damaged, more pixels than Pillow's limit against decompression bombs, numbers without a
    known range (floats, 32 bits), and several pictures in one file: which of an animation is meant is not ours to say.
    """
    return _read(path, "picture", _rgb_of)


def decoded_clip(path: Path | bytes, most: int) -> list[Image.Image]:
    """Return the first frames of a clip, at most so many, each as `decoded` returns a picture.

    Of an animated WebP, GIF or PNG a frame that stays longer than the shortest one is as many frames. Other files are
    videos, and read by PyAV; of one whose rate varies a frame that stays longer than most is as many frames. Raises
    UserError as `decoded` does, and where PyAV is not installed.
    """
    return paced(path, most)[0]


def paced(path: Path | bytes, most: int) -> tuple[list[Image.Image], float]:
    """Return what `decoded_clip` does, and how long each frame stays, in milliseconds; of one alone that is 0."""
    return _read(path, "clip", partial(_frames_of, most=most))


def at_even_distances(length: int, most: int) -> list[int]:
    """Return the places of `most` frames of so many, or of all, each in the middle of its equal part."""
    count = min(most, length)
    return [(2 * i + 1) * length // (2 * count) for i in range(count)]


def require_picture(path: Path) -> None:
    """Refuse a file that does not begin as a picture does; its pixels are not looked at. Raises UserError."""
    _read(path, "picture", lambda file: Image.open(file).size)


Read = TypeVar("Read")


def _read(path: Path | bytes, what: str, read: Callable[[BinaryIO], Read]) -> Read:
    try:
        if isinstance(path, Path) and path.exists() and not (path.is_file() or path.is_dir()):  # a pipe never ends
            raise ValueError("not a plain file")
        with io.BytesIO(path) if isinstance(path, bytes) else path.open("rb") as file, warnings.catch_warnings():
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                raise ValueError(LFS_ADVICE)
            file.seek(0)
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return read(file)
    except UnidentifiedImageError as error:
        raise UserError(f"{what} {_named(path)} cannot be read: it holds no {what} of a kind known here") from error
    except Exception as error:  # for damaged files Pillow and PyAV raise errors of a dozen kinds
        reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        raise UserError(f"{what} {_named(path)} cannot be read: {reason or type(error).__name__}") from error


def _rgb_of(file: BinaryIO) -> Image.Image:
    image = Image.open(file)
    if image.format == "EPS":  # reading it would run it
        raise ValueError("EPS is a program, not a picture; save what it draws as a PNG")
    if image.format not in LEAD and _has_second(image):
        raise ValueError(f"it holds several pictures ({image.format}); save the one that is meant as a file of its own")
    return _rgb(image)


def _frames_of(file: BinaryIO, most: int) -> tuple[list[Image.Image], float]:
    try:
        image = Image.open(file)
    except UnidentifiedImageError:
        file.seek(0)
        return _frames_of_video(file, most)
    if image.format in LEAD:
        return [_rgb(image)], 0
    kept, lasts = [], []
    for frame in itertools.islice(ImageSequence.Iterator(image), most):
        kept.append(_rgb(frame))
        lasts.append(frame.info.get("duration") or 0)  # known once the frame was loaded
    pause = min(lasts) or max(lasts) or 1
    return _held(kept, lasts, pause)[:most], pause if len(kept) > 1 else 0


def _held(frames: Sequence[Image.Image], lasts: Sequence[float], pause: float) -> list[Image.Image]:
    """Return each frame as often as the time that it lasts has pauses, and once at least."""
    return [frame for frame, lasted in zip(frames, lasts, strict=True) for _ in range(max(1, round(lasted / pause)))]


def _frames_of_video(file: BinaryIO, most: int) -> tuple[list[Image.Image], float]:
    try:
        import av
    except ImportError as error:
        raise ValueError("videos need av: pip install 'limner[video]'; animated WebP and GIF need nothing") from error
    try:
        with av.open(file, mode="r") as video:
            stream = video.streams.video[0]
            if stream.width * stream.height > (Image.MAX_IMAGE_PIXELS or math.inf):
                raise ValueError(f"its frames have {stream.width} x {stream.height} pixels, which is too many")
            some = list(itertools.islice(video.decode(stream), most))
            frames = [frame.to_image() for frame in some]
            begun = [frame.time for frame in some if frame.time is not None]
            lasts = [1000 * (b - a) for a, b in itertools.pairwise(begun)]
            if len(begun) == len(some) > 1 and 0 < min(lasts) < max(lasts) / UNEVEN:
                pause = statistics.median(lasts)
                return _held(frames, [*lasts, pause], pause)[:most], pause
            return frames, float(1000 / stream.average_rate) if stream.average_rate and len(frames) > 1 else 0
    except av.FFmpegError as error:
        raise ValueError(f"it holds no picture or clip of a kind known here ({error.strerror})") from error


def _named(path: Path | bytes) -> Path | str:
    return f"of {len(path)} bytes" if isinstance(path, bytes) else path


def _rgb(image: Image.Image) -> Image.Image:
    """Return a picture upright, on white where it is transparent, with 8 bits of red, green and blue."""
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
