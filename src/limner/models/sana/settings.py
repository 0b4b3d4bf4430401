"""What can be chosen about SANA's pipelines; diffusers is imported when it is loaded."""

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
class SanaSettings:
    """SANA and SANA-1.5, flow matching by a transformer of linear attention over 32 x 32 pixels a latent one."""

    resolution: Pixels | None = None
    """Height in pixels, and width unless that is given; None: the pipeline's own, 1024."""
    width: Pixels | None = None
    """Width in pixels; None: the height."""
    negative_prompt: str = ""
    """What guidance leads away from."""
    max_sequence_length: Annotated[int, Range(least=1, most=300)] = 300
    """Tokens of a text, the last of the instruction that it stands in."""

    serves: ClassVar[tuple[str, ...]] = ("SanaPipeline",)

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder, a hub id, or a copy of a pipeline in memory."""
        return piped("limner.models.sana.family:SANA", source, self, dtype, device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask a diffusers pipeline for the same, at exactly this size."""
        asked = arguments(self.resolution, self.width, self.negative_prompt)
        own = {"max_sequence_length": self.max_sequence_length, "use_resolution_binning": False}
        return {**sampler, **asked, **own}


@settings
class SanaSprintSettings:
    """SANA-Sprint, SANA as a consistency model of one step to four, told the scale of guidance."""

    resolution: Pixels | None = None
    """Height in pixels, and width unless that is given; None: the pipeline's own, 1024."""
    width: Pixels | None = None
    """Width in pixels; None: the height."""
    guidance: NotNegative = 4.5
    """The scale that the network is told, and imitates in one evaluation; its pipeline knows no other guidance."""
    max_sequence_length: Annotated[int, Range(least=1, most=300)] = 300
    """Tokens of a text, the last of the instruction that it stands in."""

    serves: ClassVar[tuple[str, ...]] = ("SanaSprintPipeline",)
    negative_prompt: ClassVar[str] = ""

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder, a hub id, or a copy of a pipeline in memory."""
        return piped("limner.models.sana.sprint:SANA_SPRINT", source, self, dtype, device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask a diffusers pipeline for the same, at exactly this size.

        Its own second time is for two steps alone, and it must be told so. Raises UserError for a sampler that guides.
        """
        own: dict[str, Any] = {"guidance_scale": self.guidance, "max_sequence_length": self.max_sequence_length}
        if sampler.get("num_inference_steps", 2) != 2:
            own["intermediate_timesteps"] = None
        asked = arguments(self.resolution, self.width, "")
        return {**unguided(sampler, "SanaSprintPipeline"), **asked, **own, "use_resolution_binning": False}
