"""What can be chosen about an aMUSEd pipeline; diffusers is imported when it is loaded."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from limner.core.settings import settings
from limner.models.picture import Pixels, arguments

if TYPE_CHECKING:
    import torch

    from limner.core.protocols import Adapter
    from limner.core.types import Pipeline


@settings
class AmusedSettings:
    """aMUSEd, which fills in the codes of a picture that begins with all of them hidden; sampler MaskedSampler."""

    resolution: Pixels | None = None
    """Height in pixels, and width unless that is given; None: the pipeline's own, 256 or 512."""
    width: Pixels | None = None
    """Width in pixels; None: the height."""
    negative_prompt: str = ""
    """What guidance leads away from."""

    serves: ClassVar[tuple[str, ...]] = ("AmusedPipeline",)

    def load(self, source: str | Path | Pipeline, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder, a hub id, or a copy of a pipeline in memory."""
        adapter = importlib.import_module("limner.models.amused.adapter")  # by name: it knows these settings
        return adapter.Amused.load(source, self, dtype, device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask a diffusers pipeline for the same."""
        return {**sampler} | arguments(self.resolution, self.width, self.negative_prompt)
