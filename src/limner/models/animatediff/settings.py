"""What can be chosen about an AnimateDiff pipeline; diffusers is imported when it is loaded."""

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
class AnimateDiffSettings:
    """AnimateDiff, text to video, Stable Diffusion 1.5 with motion modules between its layers."""

    resolution: Pixels | None = None
    """Height in pixels, and width unless that is given; None: the pipeline's own, 512."""
    width: Pixels | None = None
    """Width in pixels; None: the height."""
    num_frames: Annotated[int, Range(least=1, most=10_000)] = 16
    """Frames of a clip, each with a latent; at most those that the motion modules have places for (32)."""
    fps: Annotated[float, Range(above=0, most=1000)] = 8.0
    """Frames a second of the clips that are written."""
    negative_prompt: str = ""
    """What guidance leads away from."""

    serves: ClassVar[tuple[str, ...]] = ("AnimateDiffPipeline",)

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder, a hub id, or a copy of a pipeline in memory."""
        return piped("limner.models.animatediff.family:ANIMATEDIFF", source, self, dtype, device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask a diffusers pipeline for the same."""
        asked = arguments(self.resolution, self.width, self.negative_prompt)
        return {**sampler, **asked, "num_frames": self.num_frames}
