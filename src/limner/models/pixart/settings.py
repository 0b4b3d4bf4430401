"""What can be chosen about a PixArt-Sigma pipeline; diffusers is imported when it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from limner.core.settings import Range, settings
from limner.models.picture import Pixels, arguments, piped

if TYPE_CHECKING:
    import torch

    from limner.core.protocols import Adapter
    from limner.core.types import Source


@settings
class PixArtSettings:
    """PixArt-Sigma, diffusion by a transformer whose pictures read T5's states."""

    resolution: Pixels | None = None
    """Height in pixels, and width unless that is given; None: the network's own."""
    width: Pixels | None = None
    """Width in pixels; None: the height."""
    negative_prompt: str = ""
    """What guidance leads away from."""
    max_sequence_length: Annotated[int, Range(least=1, most=300)] = 300
    """Tokens of a text."""

    serves: ClassVar[tuple[str, ...]] = ("PixArtSigmaPipeline",)

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder, a hub id, or a copy of a pipeline in memory."""
        return piped("limner.models.pixart.family:PIXART", source, self, dtype, device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask a diffusers pipeline for the same, at exactly this size."""
        asked = arguments(self.resolution, self.width, self.negative_prompt)
        exact = {"use_resolution_binning": False, "clean_caption": False}
        return {**sampler, **asked, "max_sequence_length": self.max_sequence_length, **exact}
