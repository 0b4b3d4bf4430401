"""What can be chosen about a Qwen-Image pipeline; diffusers is imported when it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from limner.core.settings import Range, settings
from limner.models.picture import Pixels, arguments, piped, truly_guided

if TYPE_CHECKING:
    import torch

    from limner.core.protocols import Adapter
    from limner.core.types import Source


@settings
class QwenImageSettings:
    """Qwen-Image, flow matching by a transformer over the states of a language model; guidance keeps lengths."""

    resolution: Pixels | None = None
    """Height in pixels, and width unless that is given; None: the pipeline's own, 1024."""
    width: Pixels | None = None
    """Width in pixels; None: the height."""
    negative_prompt: str = " "
    """What guidance leads away from; a space, as the model's authors have it, where there is nothing to say."""
    max_sequence_length: Annotated[int, Range(least=1, most=1024)] = 512
    """Tokens of a text, none of which is looked at beyond its end: as many as the longest prompt has cost least."""

    serves: ClassVar[tuple[str, ...]] = ("QwenImagePipeline",)

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder, a hub id, or a copy of a pipeline in memory."""
        return piped("limner.models.qwen_image.family:QWEN_IMAGE", source, self, dtype, device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask a diffusers pipeline for the same."""
        own = {"true_cfg_scale": 1, "max_sequence_length": self.max_sequence_length}  # diffusers would guide by 4
        return own | truly_guided(sampler, self.negative_prompt) | arguments(self.resolution, self.width, "")
