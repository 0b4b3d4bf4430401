"""What can be chosen about a HunyuanImage pipeline; diffusers is imported when it is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from limner.core.settings import Range, settings
from limner.models.picture import Pixels, arguments, piped

if TYPE_CHECKING:
    import torch

    from limner.core.protocols import Adapter
    from limner.core.types import Source


@settings
class HunyuanImageSettings:
    """HunyuanImage 2.1, flow matching by a transformer over text and picture, 32 x 32 pixels a token.

    The sampler's guidance is classifier-free, as the pipeline's own is for six steps; after them that one remembers
    earlier steps, which no policy can, and the card's code tells the pipeline so. The distilled network is refused.
    """

    resolution: Pixels | None = None
    """Height in pixels, and width unless that is given; None: the pipeline's own, 2048."""
    width: Pixels | None = None
    """Width in pixels; None: the height."""
    negative_prompt: str = ""
    """What guidance leads away from."""
    max_sequence_length: Annotated[int, Range(least=1, most=1000)] = 1000
    """Tokens that are kept of a text; one that is longer is refused, for the pipeline would read it on."""

    serves: ClassVar[tuple[str, ...]] = ("HunyuanImagePipeline",)

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder, a hub id, or a copy of a pipeline in memory."""
        return piped("limner.models.hunyuan_image.family:HUNYUAN_IMAGE", source, self, dtype, device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask a diffusers pipeline for the same, beside the guidance that it is `told`."""
        asked = {name: value for name, value in sampler.items() if name != "guidance_scale"}
        return {**asked, **arguments(self.resolution, self.width, self.negative_prompt)}

    def told(self, sampler: Mapping[str, Any]) -> Sequence[str]:
        """Return the lines that have `pipe` guide as the sampler does, by parts and not by an argument."""
        scale = sampler.get("guidance_scale", 1)
        if scale == 1:
            return ("pipe.guider = pipe.ocr_guider = None  # no guidance",)
        return (
            "from diffusers import ClassifierFreeGuidance",
            "",
            f"pipe.guider, pipe.ocr_guider = ClassifierFreeGuidance(guidance_scale={scale}), None",
        )
