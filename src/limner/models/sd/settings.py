"""What can be chosen about a Stable Diffusion pipeline with a UNet; diffusers is imported when it is loaded."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from limner.core.settings import settings
from limner.models.picture import Pixels, arguments

if TYPE_CHECKING:
    import torch

    from limner.core.protocols import Adapter
    from limner.core.types import Source


@settings
class SDSettings:
    """Stable Diffusion 1.5, 2.1 and XL, a UNet that predicts noise or v."""

    resolution: Pixels | None = None
    """Height in pixels, and width unless that is given; None: the pipeline's own."""
    width: Pixels | None = None
    """Width in pixels; None: the height."""
    negative_prompt: str = ""
    """What guidance leads away from."""

    serves: ClassVar[tuple[str, ...]] = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder, a hub id, or a copy of a pipeline in memory."""
        adapter = importlib.import_module("limner.models.sd.adapter")  # by name: it knows these settings
        return adapter.SD.load(source, self, dtype, device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask a diffusers pipeline for the same."""
        return {**sampler, **arguments(self.resolution, self.width, self.negative_prompt)}
