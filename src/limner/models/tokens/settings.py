"""What can be chosen about a model of tokens; its libraries are imported when it is loaded."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from limner.core.settings import settings

if TYPE_CHECKING:
    import torch

    from limner.core.protocols import Adapter
    from limner.core.types import Source


@settings
class TokensSettings:
    """Pictures as tokens: a Llama decoder writes the codes of a VQ tokenizer after the words of the caption."""

    negative_prompt: str = ""
    """What guidance leads away from."""

    serves: ClassVar[tuple[str, ...]] = ("LlamaVQPipeline",)

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder."""
        adapter = importlib.import_module("limner.models.tokens.adapter")  # by name: it knows these settings
        return adapter.Tokens.load(source, self, dtype, device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask `generate` of transformers for the same, beside the negative prompt."""
        return {**sampler}
