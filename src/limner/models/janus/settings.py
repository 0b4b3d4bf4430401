"""What can be chosen about a Janus model; transformers is imported when it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from limner.core.settings import Count, settings
from limner.models.picture import multimodal

if TYPE_CHECKING:
    import torch

    from limner.core.protocols import Adapter
    from limner.core.types import Pipeline


@settings
class JanusSettings:
    """Janus-Pro, which writes the codes of a picture after the prompt; sampler TokenSampler."""

    max_sequence_length: Count = 128
    """Tokens of a prompt and what stands around it, to which all are filled up; a longer one is refused."""

    serves: ClassVar[tuple[str, ...]] = ("JanusForConditionalGeneration",)
    negative_prompt: ClassVar[str] = ""

    def load(self, source: str | Path | Pipeline, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder or a hub id."""
        return multimodal("limner.models.janus.dialect:JANUS", source, self, dtype, device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask its `generate` for the same."""
        return {**sampler}
