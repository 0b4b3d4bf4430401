"""Where a pipeline is, and which of its editions is meant; it imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Edition:
    """A pipeline's folder or hub id, with the revision of its repository and the variant of its files that are wanted.

    "" is the newest revision, and the files without a variant.
    """

    place: str
    revision: str = ""
    variant: str = ""

    def __str__(self) -> str:
        told = {"revision": self.revision, "variant": self.variant}
        return f"{self.place} ({', '.join(f'{name} {value}' for name, value in told.items() if value)})"
