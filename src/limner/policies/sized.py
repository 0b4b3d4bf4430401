"""Denoisers that draw pictures of several sizes."""

from __future__ import annotations

import re
from typing import Protocol, runtime_checkable

from limner.core.errors import UserError, shown
from limner.core.protocols import Denoiser


@runtime_checkable
class Sized(Protocol):
    """A denoiser that draws pictures of several sizes, and reads those of any."""

    def sized(self, height: int, width: int) -> Denoiser:
        """Return it as it draws at another size. Raises UserError for one that it does not draw."""
        ...


def sized(model: Denoiser, size: str) -> Denoiser:
    """Return the model as it draws at "HEIGHTxWIDTH" pixels. Raises UserError for what it does not draw."""
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", size)
    if found is None:
        raise UserError(f"sampler.sizes are HEIGHTxWIDTH, as in 768x512, got {shown(size)}")
    if not isinstance(model, Sized):
        raise UserError(f"sampler.sizes: {type(model).__name__} draws pictures of one size: leave them out")
    return model.sized(int(found[1]), int(found[2]))
