"""What can be chosen about an Emu3 model; transformers is imported when it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from limner.core.settings import Count, settings
from limner.models.picture import Pixels, multimodal

if TYPE_CHECKING:
    import torch

    from limner.core.protocols import Adapter
    from limner.core.types import Pipeline


@settings
class Emu3Settings:
    """Emu3, which writes the codes of a picture after the prompt, and its size; sampler TokenSampler."""

    resolution: Pixels = 720
    """Height in pixels, and width unless that is given; a code shows 8 x 8 of them."""
    width: Pixels | None = None
    """Width in pixels; None: the height."""
    negative_prompt: str = ""
    """What guidance leads away from."""
    max_sequence_length: Count = 128
    """Tokens of a prompt and what stands around it, to which all are filled up; a longer one is refused."""

    serves: ClassVar[tuple[str, ...]] = ("Emu3ForConditionalGeneration",)

    def load(self, source: str | Path | Pipeline, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder or a hub id."""
        return multimodal("limner.models.emu3.dialect:EMU3", source, self, dtype, device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask its `generate` for the same, beside the negative prompt."""
        return {**sampler}
