"""What generators show, as numbers, as the levels of an 8-bit file, and as files that people open."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import ClassVar, Protocol, Self

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor, uint8

from limner.core.errors import UserError
from limner.core.paths import whole


class Media(Protocol):
    """What a generator shows: a tree of tensors with leading axis batch. Pictures, videos; later views and assets."""

    @property
    def suffixes(self) -> Sequence[str]:
        """How the name of a sample's file may end, as in ".png"; the first loses nothing: a run keeps that."""
        ...

    def frames(self) -> Float[Tensor, "batch frames 3 height width"]:
        """Return rendered 2-D frames, sRGB in [0, 1]; an image has one frame."""
        ...

    def rounded(self) -> Self:
        """Return it as a file would hold it, so that a judge sees what is saved; it has no gradient."""
        ...

    def stills(self) -> UInt8[Tensor, "batch 3 height width"]:
        """Return one picture of 8 bits a sample, for people to look through."""
        ...

    def save(self, paths: Sequence[Path]) -> None:
        """Write a file a sample, as people open it, of the kind that its name ends in; each is whole or absent."""
        ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Images:
    """Pictures: sRGB values in [0, 1], or the levels, 0 to 255, that a file holds, in a quarter of the memory."""

    values: Float[Tensor, "batch 3 height width"] | UInt8[Tensor, "batch 3 height width"]

    suffixes: ClassVar[Sequence[str]] = (".png",)

    @property
    def pixels(self) -> Float[Tensor, "batch 3 height width"]:
        """The pictures in [0, 1]; level k is k / 255."""
        return unit(self.values)

    def frames(self) -> Float[Tensor, "batch 1 3 height width"]:
        return self.pixels[:, None]

    def rounded(self) -> Images:
        """Return the pictures as levels."""
        return Images(levels(self.values))

    def stills(self) -> UInt8[Tensor, "batch 3 height width"]:
        """Return the pictures themselves."""
        return levels(self.values)

    def save(self, paths: Sequence[Path]) -> None:
        """Write PNG files."""
        for picture, path in zip(self.stills(), paths, strict=True):
            with whole(path) as part:
                to_image(picture).save(part, format="PNG")

    def __len__(self) -> int:
        return self.values.shape[0]


@dataclass(frozen=True)
class Videos:
    """Clips of `fps` frames a second: sRGB values in [0, 1], or the levels, 0 to 255, that a file holds.

    Raises UserError for a rate that is no positive number, and for clips without a frame.
    """

    values: Float[Tensor, "batch frames 3 height width"] | UInt8[Tensor, "batch frames 3 height width"]
    fps: float

    suffixes: ClassVar[Sequence[str]] = (".webp", ".gif", ".mp4")

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise UserError(f"videos: fps, the frames a second, must be a positive number, got {self.fps}")
        if self.values.shape[1] == 0:
            raise UserError(f"videos: a clip has one frame at least, got values of shape {tuple(self.values.shape)}")

    def frames(self) -> Float[Tensor, "batch frames 3 height width"]:
        """Return the clips in [0, 1]; level k is k / 255."""
        return unit(self.values)

    def rounded(self) -> Videos:
        """Return the clips as levels."""
        return replace(self, values=levels(self.values))

    def stills(self) -> UInt8[Tensor, "batch 3 height width"]:
        """Return the frames in the middle."""
        return levels(self.values[:, self.values.shape[1] // 2])

    def save(self, paths: Sequence[Path]) -> None:
        """Write animated WebP (exact, but that equal neighbours are one longer frame), GIF (256 colours), or MP4."""
        for clip, path in zip(levels(self.values), paths, strict=True):
            with whole(path) as part:
                if path.suffix == ".mp4":
                    _write_mp4(clip, self.fps, part)
                    continue
                first, *rest = map(to_image, clip)
                kind, pause = Image.registered_extensions()[path.suffix.lower()], round(1000 / self.fps)
                first.save(part, kind, save_all=True, append_images=rest, duration=pause, loop=0, lossless=True)

    def __len__(self) -> int:
        return self.values.shape[0]


@dataclass(frozen=True)
class Shown:
    """What samples show, as files hold it, and which of them are finite: the others are shown to no judge."""

    media: Media
    finite: Bool[Tensor, " batch"]


def levels(values: Float[Tensor, "*axes"] | UInt8[Tensor, "*axes"]) -> UInt8[Tensor, "*axes"]:
    """Return the levels, 0 to 255, that are nearest to sRGB values in [0, 1]; levels stay as they are, NaN is 0."""
    if values.dtype == uint8:
        return values
    return (values.detach().float().nan_to_num(0.0).clamp(0, 1) * 255).round().to(uint8)


def unit(values: Float[Tensor, "*axes"] | UInt8[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    """Return k / 255 in float32 for a level k, which `levels` takes back to k; values in [0, 1] stay as they are."""
    return values.float() / 255 if values.dtype == uint8 else values


def to_image(picture: UInt8[Tensor, "3 height width"]) -> Image.Image:
    """Return the picture as Pillow's."""
    return Image.fromarray(picture.cpu().permute(1, 2, 0).contiguous().numpy())


def _write_mp4(clip: UInt8[Tensor, "frames 3 height width"], fps: float, path: Path) -> None:
    """Write H.264; a side of odd length repeats its last row or column, as the format needs even ones."""
    try:
        import av
    except ModuleNotFoundError as error:
        raise UserError("writing .mp4 needs av: pip install 'limner[video]'; .webp and .gif need nothing") from error
    pixels = clip.cpu().permute(0, 2, 3, 1).numpy()
    pixels = np.pad(pixels, ((0, 0), (0, pixels.shape[1] % 2), (0, pixels.shape[2] % 2), (0, 0)), mode="edge")
    with av.open(str(path), mode="w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": "12"})
        stream.height, stream.width = pixels.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in pixels:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        file.mux(stream.encode())
