"""o4 for a masked model: logits for every place, given every way in which the others can be written or not.

The sequences and their rewards are those of `limner.worlds.oracle.tokens`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from limner.core.media import Media
from limner.core.types import Condition, LatentSpec, Pipeline, Prompt
from limner.worlds.oracle.tokens import CODES, LENGTH, Sequences


class MaskedTable(nn.Module):
    """Logits of each place for each of 5^4 partly written sequences; row 1 of `prompt` is the empty prompt."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.given = nn.Parameter(torch.randn((CODES + 1) ** LENGTH, LENGTH, CODES, generator=generator))
        self.prompt = nn.Parameter(torch.randn(2, CODES, generator=generator) * torch.tensor([[0.0], [0.5]]))

    def forward(
        self, tokens: Int[Tensor, "batch tokens"], prompt: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch tokens codes"]:
        """Return the logits of each place; a token that is not written is -1."""
        weights = (CODES + 1) ** torch.arange(LENGTH - 1, -1, -1, device=tokens.device)
        return self.given[((tokens + 1) * weights).sum(1)] + self.prompt[prompt][:, None]


@dataclass(frozen=True, eq=False)
class MaskedOracle:
    """The table as a masked model."""

    networks: Mapping[str, nn.Module]

    lora_targets: ClassVar[Sequence[str]] = ()
    pipeline_name: ClassVar[str] = ""
    left_out: ClassVar[Sequence[str]] = ()

    @classmethod
    def load(cls, device: torch.device | str = "cpu") -> MaskedOracle:
        """Return the base."""
        return cls({"table": MaskedTable().to(device)})

    def with_networks(self, networks: Mapping[str, nn.Module]) -> MaskedOracle:
        """Return this oracle over another table."""
        return replace(self, networks=networks)

    def latent(self) -> LatentSpec:
        """Return that a sample is four tokens, where the table is."""
        return LatentSpec((LENGTH,), torch.int64, next(self.networks["table"].parameters()).device)

    def encode(self, prompts: Sequence[Prompt]) -> Condition:
        """Return row 0 of the table for each prompt, and row 1 for the empty one."""
        return {"row": torch.tensor([*(0 for _ in prompts), 1], device=self.latent().device)}

    def logits(
        self, tokens: Int[Tensor, "batch tokens"], condition: Condition, prompt_index: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch tokens codes"]:
        """Return the logits of every place given what is written at the others."""
        return self.networks["table"](tokens, condition["row"][prompt_index])

    def decode(self, sample: Int[Tensor, "batch tokens"]) -> Sequences:
        """Return the samples as they are."""
        return Sequences(sample)

    def encode_media(self, media: Media) -> Int[Tensor, "batch tokens"]:
        """Return the tokens. Raises ValueError for media that are none."""
        if not isinstance(media, Sequences):
            raise ValueError(f"an oracle of tokens draws Sequences, not {type(media).__name__}")
        return media.tokens


@dataclass(frozen=True)
class MaskedOracleSettings:
    """Nothing can be chosen about an oracle."""

    serves: ClassVar[tuple[str, ...]] = ()

    def load(self, source: str | Path | Pipeline, dtype: torch.dtype, device: torch.device) -> MaskedOracle:
        """Return the oracle, in float32 whatever `dtype` is."""
        return MaskedOracle.load(device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return nothing more than the sampler asks: no library draws an oracle."""
        return sampler
