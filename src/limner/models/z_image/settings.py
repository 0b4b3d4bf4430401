"""What can be chosen about a Z-Image pipeline; diffusers is imported when it is loaded."""

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
class ZImageSettings:
    """Z-Image and Z-Image-Turbo, flow matching by one stream of the states of a language model and the picture."""

    resolution: Pixels | None = None
    """Height in pixels, and width unless that is given; None: the pipeline's own, 1024."""
    width: Pixels | None = None
    """Width in pixels; None: the height."""
    negative_prompt: str = ""
    """What guidance leads away from."""
    max_sequence_length: Annotated[int, Range(least=1, most=512)] = 512
    """Tokens of a text, its chat template among them."""

    serves: ClassVar[tuple[str, ...]] = ("ZImagePipeline",)

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder, a hub id, or a copy of a pipeline in memory."""
        return piped("limner.models.z_image.family:Z_IMAGE", source, self, dtype, device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask a diffusers pipeline for the same; its guidance of 0 is none."""
        asked = arguments(self.resolution, self.width, self.negative_prompt)
        scale = dict(sampler).get("guidance_scale", 1)
        return {**sampler, **asked, "guidance_scale": scale - 1, "max_sequence_length": self.max_sequence_length}
