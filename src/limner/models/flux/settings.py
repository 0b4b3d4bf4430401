"""What can be chosen about a FLUX.1 pipeline; diffusers is imported when it is loaded."""

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
class FluxSettings:
    """FLUX.1 dev and schnell, flow matching by a transformer that was distilled to need no guidance."""

    resolution: Pixels | None = None
    """Height in pixels, and width unless that is given; None: the pipeline's own, 1024."""
    width: Pixels | None = None
    """Width in pixels; None: the height."""
    negative_prompt: str = ""
    """What true guidance, the sampler's, leads away from."""
    guidance: NotNegative = 3.5
    """The scale that the network of FLUX.1 dev is told, and imitates in one evaluation; schnell is told none."""
    max_sequence_length: Annotated[int, Range(least=1, most=512)] = 512
    """Tokens of a text; schnell was trained with 256."""

    serves: ClassVar[tuple[str, ...]] = ("FluxPipeline",)

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder, a hub id, or a copy of a pipeline in memory."""
        return piped("limner.models.flux.family:FLUX", source, self, dtype, device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask a diffusers pipeline for the same; its `guidance_scale` is the network's."""
        own = {"guidance_scale": self.guidance, "max_sequence_length": self.max_sequence_length}
        asked = arguments(self.resolution, self.width, self.negative_prompt)
        return truly_guided(sampler, self.negative_prompt) | asked | own
