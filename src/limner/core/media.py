"""What generators show, as numbers, as the levels of an 8-bit file, and as files that people open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, Self

from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor, uint8


class Media(Protocol):
    """What a generator shows: a tree of tensors with leading axis batch. Pictures; later videos, views and assets."""

    @property
    def suffix(self) -> str:
        """How the name of a sample's file ends, as in ".png"."""
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
        """Write a file a sample, as people open it."""
        ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Images:
    """Pictures: sRGB values in [0, 1], or the levels, 0 to 255, that a file holds, in a quarter of the memory."""

    values: Float[Tensor, "batch 3 height width"] | UInt8[Tensor, "batch 3 height width"]

    suffix: ClassVar[str] = ".png"

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
            to_image(picture).save(path, format="PNG")

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
