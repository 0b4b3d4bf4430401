"""What can be chosen about a Mochi pipeline; diffusers is imported when it is loaded."""

from __future__ import annotations

from typing import Annotated, ClassVar

from limner.core.settings import Range, settings
from limner.models.filmed import ClipSettings, Frames, Pace


@settings
class MochiSettings(ClipSettings):
    """Mochi, text to video, flow matching by a transformer over text and clip."""

    num_frames: Frames = 19
    """Frames of a clip, one more than a multiple of the autoencoder's (6)."""
    fps: Pace = 30.0
    max_sequence_length: Annotated[int, Range(least=1, most=256)] = 256

    serves: ClassVar[tuple[str, ...]] = ("MochiPipeline",)
    family: ClassVar[str] = "limner.models.mochi.family:MOCHI"
