"""What can be chosen about an LTX-Video pipeline; diffusers is imported when it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from limner.core.settings import Range, settings
from limner.models.filmed import ClipSettings, Frames, Pace


@settings
class LTXSettings(ClipSettings):
    """LTX-Video, text to video, flow matching by a transformer over clips of 32 x 32 pixels a latent one."""

    num_frames: Frames = 161
    """Frames of a clip, one more than a multiple of the autoencoder's (8)."""
    fps: Pace = 25.0
    """Frames a second, which the network is told."""
    max_sequence_length: Annotated[int, Range(least=1, most=512)] = 128

    serves: ClassVar[tuple[str, ...]] = ("LTXPipeline",)
    family: ClassVar[str] = "limner.models.ltx.family:LTX"

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask a diffusers pipeline for the same."""
        return {**ClipSettings.call(self, sampler), "frame_rate": self.fps}
