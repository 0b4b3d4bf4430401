"""What can be chosen about a HunyuanVideo pipeline; diffusers is imported when it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from limner.core.settings import NotNegative, Range, settings
from limner.models.picture import Pixels, arguments, piped, truly_guided

if TYPE_CHECKING:
    import torch

    from limner.core.protocols import Adapter
    from limner.core.types import Source


@settings
class HunyuanVideoSettings:
    """HunyuanVideo, text to video, flow matching by a transformer that was distilled to need no guidance."""

    resolution: Pixels | None = None
    """Height in pixels, and width unless that is given; None: the pipeline's own, 720 x 1280."""
    width: Pixels | None = None
    """Width in pixels; None: the height."""
    num_frames: Annotated[int, Range(least=1, most=10_000)] = 129
    """Frames of a clip, one more than a multiple of the autoencoder's (4)."""
    fps: Annotated[float, Range(above=0, most=1000)] = 15.0
    """Frames a second of the clips that are written."""
    negative_prompt: str = ""
    """What true guidance, the sampler's, leads away from."""
    guidance: NotNegative = 6.0
    """The scale that the network is told, and imitates in one evaluation."""
    max_sequence_length: Annotated[int, Range(least=1, most=256)] = 256
    """Tokens of a text behind the instruction that it stands in."""

    serves: ClassVar[tuple[str, ...]] = ("HunyuanVideoPipeline",)

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder, a hub id, or a copy of a pipeline in memory."""
        return piped("limner.models.hunyuan_video.family:HUNYUAN_VIDEO", source, self, dtype, device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask a diffusers pipeline for the same; its `guidance_scale` is the network's."""
        own = {
            "num_frames": self.num_frames,
            "guidance_scale": self.guidance,
            "max_sequence_length": self.max_sequence_length,
        }
        asked = arguments(self.resolution, self.width, self.negative_prompt)
        return truly_guided(sampler, self.negative_prompt) | asked | own
