"""What was drawn of one prompt, as a notebook shows it: a sheet of stills, each with its seed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from limner.core.media import Media, to_image
from limner.report.gallery import grid

COLUMNS = 8
SHEET_SIDE = 1600
"""Pixels of a sheet at most, in a notebook."""


@dataclass(frozen=True, repr=False)
class Samples:
    """Samples of a prompt: media, which show themselves in a notebook."""

    media: Media
    prompt: str
    seeds: Sequence[int]

    @property
    def suffixes(self) -> Sequence[str]:
        """How the name of a sample's file may end."""
        return self.media.suffixes

    def frames(self) -> Float[Tensor, "batch frames 3 height width"]:
        """Return rendered 2-D frames, sRGB in [0, 1]."""
        return self.media.frames()

    def rounded(self) -> Self:
        """Return them as files hold them."""
        return replace(self, media=self.media.rounded())

    def stills(self) -> UInt8[Tensor, "batch 3 height width"]:
        """Return one picture of 8 bits a sample."""
        return self.media.stills()

    def pil(self) -> list[Image.Image]:
        """Return one picture a sample, as Pillow has them."""
        return [to_image(picture) for picture in self.stills()]

    def save(self, paths: Sequence[Path]) -> None:
        """Write a file a sample."""
        self.media.save(paths)

    def sheet(self) -> Image.Image:
        """Return all of them in rows, each with its seed below."""
        labels = [f"seed {seed}" for seed in self.seeds]
        return grid(self.stills(), labels, columns=min(len(labels), COLUMNS))

    def __len__(self) -> int:
        return len(self.media)

    def __repr__(self) -> str:
        return f"Samples({self.prompt!r}, seeds {', '.join(map(str, self.seeds[:8]))}{', ...' * (len(self) > 8)})"

    def _repr_png_(self) -> bytes:
        sheet, written = self.sheet(), io.BytesIO()
        sheet.thumbnail((SHEET_SIDE, SHEET_SIDE), Image.Resampling.LANCZOS)
        sheet.save(written, format="PNG", optimize=True)
        return written.getvalue()
