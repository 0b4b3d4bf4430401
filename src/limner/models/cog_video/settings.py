"""What can be chosen about a CogVideoX pipeline; diffusers is imported when it is loaded."""

from __future__ import annotations

from typing import Annotated, ClassVar

from limner.core.settings import Range, settings
from limner.models.filmed import ClipSettings, Frames, Pace


@settings
class CogVideoSettings(ClipSettings):
    """CogVideoX, text to video, diffusion by a transformer over text and clip."""

    num_frames: Frames = 49
    """Frames of a clip, one more than a multiple of the autoencoder's (4)."""
    fps: Pace = 8.0
    max_sequence_length: Annotated[int, Range(least=1, most=226)] = 226

    serves: ClassVar[tuple[str, ...]] = ("CogVideoXPipeline",)
    family: ClassVar[str] = "limner.models.cog_video.family:COG_VIDEO"
