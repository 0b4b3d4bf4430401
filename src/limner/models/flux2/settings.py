"""What can be chosen about a FLUX.2 pipeline; diffusers is imported when it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from limner.core.settings import NotNegative, Range, settings
from limner.models.picture import Pixels, arguments, piped, unguided

if TYPE_CHECKING:
    import torch

    from limner.core.protocols import Adapter
    from limner.core.types import Source


@settings
class Flux2Settings:
    """FLUX.2 dev, flow matching by a transformer that was distilled to need no guidance, over Mistral's states."""

    resolution: Pixels | None = None
    """Height in pixels, and width unless that is given; None: the pipeline's own, 1024."""
    width: Pixels | None = None
    """Width in pixels; None: the height."""
    guidance: NotNegative = 4.0
    """The scale that the network is told, and imitates in one evaluation; its pipeline knows no other guidance."""
    max_sequence_length: Annotated[int, Range(least=1, most=512)] = 512
    """Tokens of a text, the instruction before it and padding after it among them."""

    serves: ClassVar[tuple[str, ...]] = ("Flux2Pipeline",)
    negative_prompt: ClassVar[str] = ""

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder, a hub id, or a copy of a pipeline in memory."""
        return piped("limner.models.flux2.family:FLUX2", source, self, dtype, device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask a diffusers pipeline for the same; its `guidance_scale` is the network's.

        Raises UserError for a sampler that guides, for its pipeline cannot.
        """
        own = {"guidance_scale": self.guidance, "max_sequence_length": self.max_sequence_length}
        return {**unguided(sampler, "Flux2Pipeline"), **arguments(self.resolution, self.width, ""), **own}


@settings
class Flux2KleinSettings:
    """FLUX.2 Klein, flow matching by a smaller transformer of FLUX.2's kind, over Qwen3's states."""

    resolution: Pixels | None = None
    """Height in pixels, and width unless that is given; None: the pipeline's own, 1024."""
    width: Pixels | None = None
    """Width in pixels; None: the height."""
    max_sequence_length: Annotated[int, Range(least=1, most=512)] = 512
    """Tokens of a text, its chat template and padding after it among them."""

    serves: ClassVar[tuple[str, ...]] = ("Flux2KleinPipeline",)
    negative_prompt: ClassVar[str] = ""
    """Guidance leads away from the empty text; its pipeline guides base models alone, none that is distilled."""

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder, a hub id, or a copy of a pipeline in memory."""
        return piped("limner.models.flux2.family:FLUX2_KLEIN", source, self, dtype, device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask a diffusers pipeline for the same."""
        own = {"max_sequence_length": self.max_sequence_length}
        return {**sampler, **arguments(self.resolution, self.width, ""), **own}
