"""What can be chosen about a Stable Diffusion 3 pipeline; diffusers is imported when it is loaded."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from limner.core.settings import Natural, settings
from limner.models.picture import Pixels, arguments

if TYPE_CHECKING:
    import torch

    from limner.core.protocols import Adapter
    from limner.core.types import Source


@settings
class SD3Settings:
    """Stable Diffusion 3 and 3.5, flow matching by a transformer over text and picture."""

    resolution: Pixels | None = None
    """Height in pixels, and width unless that is given; None: the pipeline's own."""
    width: Pixels | None = None
    """Width in pixels; None: the height."""
    negative_prompt: str = ""
    """What guidance leads away from."""
    max_sequence_length: Natural | None = None
    """Length of the T5 part of the text, zeros where there is no T5; None: diffusers' default (256)."""

    serves: ClassVar[tuple[str, ...]] = ("StableDiffusion3Pipeline",)

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder, a hub id, or a copy of a pipeline in memory."""
        adapter = importlib.import_module("limner.models.sd3.adapter")  # by name: it knows these settings
        return adapter.SD3.load(source, self, dtype, device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask a diffusers pipeline for the same."""
        length = {} if self.max_sequence_length is None else {"max_sequence_length": self.max_sequence_length}
        return {**sampler, **arguments(self.resolution, self.width, self.negative_prompt), **length}
