"""What can be chosen about a HunyuanVideo pipeline; diffusers is imported when it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from limner.core.settings import NotNegative, Range, settings
from limner.models.filmed import ClipSettings, Frames, Pace
from limner.models.picture import truly_guided


@settings
class HunyuanVideoSettings(ClipSettings):
    """HunyuanVideo, text to video, flow matching by a transformer that was distilled to need no guidance."""

    num_frames: Frames = 129
    """Frames of a clip, one more than a multiple of the autoencoder's (4)."""
    fps: Pace = 15.0
    max_sequence_length: Annotated[int, Range(least=1, most=256)] = 256
    """Tokens of a text behind the instruction that it stands in."""
    negative_prompt: str = ""
    """What true guidance, the sampler's, leads away from."""
    guidance: NotNegative = 6.0
    """The scale that the network is told, and imitates in one evaluation."""

    serves: ClassVar[tuple[str, ...]] = ("HunyuanVideoPipeline",)
    family: ClassVar[str] = "limner.models.hunyuan_video.family:HUNYUAN_VIDEO"

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask a diffusers pipeline for the same; its `guidance_scale` is the network's."""
        asked = ClipSettings.call(self, truly_guided(sampler, self.negative_prompt))
        return {**asked, "guidance_scale": self.guidance}
