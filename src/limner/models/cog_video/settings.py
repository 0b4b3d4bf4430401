"""What can be chosen about a CogVideoX pipeline; diffusers is imported when it is loaded."""

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
class CogVideoSettings:
    """CogVideoX, text to video, diffusion by a transformer over text and clip."""

    resolution: Pixels | None = None
    """Height in pixels, and width unless that is given; None: the pipeline's own, 480 x 720."""
    width: Pixels | None = None
    """Width in pixels; None: the height."""
    num_frames: Annotated[int, Range(least=1, most=10_000)] = 49
    """Frames of a clip, one more than a multiple of the autoencoder's (4)."""
    fps: Annotated[float, Range(above=0, most=1000)] = 8.0
    """Frames a second of the clips that are written."""
    negative_prompt: str = ""
    """What guidance leads away from."""
    max_sequence_length: Annotated[int, Range(least=1, most=226)] = 226
    """Tokens of a text, padding among them."""

    serves: ClassVar[tuple[str, ...]] = ("CogVideoXPipeline",)

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder, a hub id, or a copy of a pipeline in memory."""
        return piped("limner.models.cog_video.family:COG_VIDEO", source, self, dtype, device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask a diffusers pipeline for the same."""
        own = {"num_frames": self.num_frames, "max_sequence_length": self.max_sequence_length}
        return {**sampler, **arguments(self.resolution, self.width, self.negative_prompt), **own}
