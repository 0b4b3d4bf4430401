"""Where a pipeline is, which of its editions is meant, and in how many bits; it imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Bits: TypeAlias = Literal["none", "int8", "nf4"]
"""How frozen weights are kept: as they are, or as codes of 8 or 4 bits (`models/quantized.py`)."""


@dataclass(frozen=True)
class Edition:
    """A pipeline's folder or hub id, with the revision of its repository and the variant of its files that are wanted.

    "" is the newest revision, and the files without a variant; `quantize` says how frozen weights are kept. A `hollow`
    one has networks without numbers, which another process reads and sends (`engine/spread.py`).
    """

    place: str
    revision: str = ""
    variant: str = ""
    quantize: Bits = "none"
    hollow: bool = False

    def __str__(self) -> str:
        told = {"revision": self.revision, "variant": self.variant}
        return f"{self.place} ({', '.join(f'{name} {value}' for name, value in told.items() if value)})"
