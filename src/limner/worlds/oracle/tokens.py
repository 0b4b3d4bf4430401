"""o4, the token world: 256 sequences of four tokens out of four, each with a reward: all of them can be summed over.

The optimum of E[r] - beta KL(p || base) is p*(y) = base(y) exp(r(y) / beta) / Z, of worth beta log Z; without a penalty
it is the best sequence. One model holds logits for every token after every beginning, and writes in order; another for
every place given every way in which the others can be written or not, and fills in. Each optimum can be reached.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from limner.core.errors import UserError, nearest
from limner.core.media import Media, levels
from limner.core.types import Condition, LatentSpec, Prompt, Source

CODES = LENGTH = 4
SIDE = 4
"""Pixels of a token's square."""


def sequences() -> Int[Tensor, "all tokens"]:
    """Return all sequences, the last token counting fastest."""
    return torch.tensor(list(itertools.product(range(CODES), repeat=LENGTH)))


def number(tokens: Int[Tensor, "*batch tokens"]) -> Int[Tensor, "*batch"]:
    """Return the place of a sequence, or of the beginning of one, among all that are as long."""
    found = torch.zeros_like(tokens[..., 0]) if tokens.shape[-1] else tokens.new_zeros(tokens.shape[:-1])
    for i in range(tokens.shape[-1]):
        found = CODES * found + tokens[..., i]
    return found


def rewards() -> Float[Tensor, " all"]:
    """Return the reward of every sequence, in [0, 1]: drawn once, and neither sum nor order of its tokens."""
    return torch.rand(CODES**LENGTH, generator=torch.Generator().manual_seed(4))


@dataclass(frozen=True)
class Sequences:
    """Samples as tokens; as frames, a row of squares that are lighter the higher the token."""

    tokens: Int[Tensor, "batch tokens"]

    suffixes: ClassVar[Sequence[str]] = (".json",)

    def frames(self) -> Float[Tensor, "batch 1 3 height width"]:
        grey = (self.tokens / (CODES - 1)).repeat_interleave(SIDE, 1)
        return grey[:, None, None, None].expand(-1, 1, 3, SIDE, -1)

    def rounded(self) -> Sequences:
        """Return the same: tokens are saved as numbers."""
        return self

    def stills(self) -> UInt8[Tensor, "batch 3 height width"]:
        """Return their frames."""
        return levels(self.frames()[:, 0])

    def save(self, paths: Sequence[Path]) -> None:
        """Write the tokens as JSON."""
        for tokens, path in zip(self.tokens.tolist(), paths, strict=True):
            path.write_text(f"{json.dumps(tokens)}\n", encoding="utf-8")

    def __len__(self) -> int:
        return self.tokens.shape[0]


class Table(nn.Module):
    """Logits of the token after every beginning, and what the prompt adds to them all; row 1 is the empty prompt."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.after = nn.ParameterList(torch.randn(CODES**i, CODES, generator=generator) for i in range(LENGTH))
        self.prompt = nn.Parameter(torch.randn(2, CODES, generator=generator) * torch.tensor([[0.0], [0.5]]))

    def forward(
        self, tokens: Int[Tensor, "batch tokens"], prompt: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch tokens codes"]:
        """Return the logits of each token after those before it."""
        return torch.stack([self.next(tokens[:, :i], prompt) for i in range(tokens.shape[1])], 1)

    def next(self, tokens: Int[Tensor, "batch before"], prompt: Int[Tensor, " batch"]) -> Float[Tensor, "batch codes"]:
        """Return the logits of the token after those."""
        return self.after[tokens.shape[1]][number(tokens)] + self.prompt[prompt]


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


TABLES = {"o4": Table, "o4-masked": MaskedTable}


@dataclass(frozen=True, eq=False)
class TokenOracle:
    """A table as a model of tokens; `begin` and `step` are those of the one that writes in order."""

    networks: Mapping[str, nn.Module]

    lora_targets: ClassVar[Sequence[str]] = ()
    pipeline_name: ClassVar[str] = ""
    left_out: ClassVar[Sequence[str]] = ()

    @classmethod
    def load(cls, path: str | Path = "o4", device: torch.device | str = "cpu") -> TokenOracle:
        """Return the base that `path` names: o4, which writes in order, or o4-masked, which fills in."""
        if str(path) not in TABLES:
            raise UserError(f"model.path {str(path)!r}: no such oracle{nearest(str(path), TABLES)}")
        return cls({"table": TABLES[str(path)]().to(device)})

    def with_networks(self, networks: Mapping[str, nn.Module]) -> TokenOracle:
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
        """Return the logits of each token given those before it."""
        return self.networks["table"](tokens, condition["row"][prompt_index])

    def fill(
        self, tokens: Int[Tensor, "batch tokens"], condition: Condition, prompt_index: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch tokens codes"]:
        """Return the logits of each token given all that are written, by the table that fills in."""
        return self.networks["table"](tokens, condition["row"][prompt_index])

    def begin(
        self, condition: Condition, prompt_index: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch codes"], Any]:
        """Return the logits of the first token, and the tokens so far: none."""
        row = condition["row"][prompt_index]
        nothing = torch.zeros(len(row), 0, dtype=torch.int64, device=row.device)
        return cast(Table, self.networks["table"]).next(nothing, row), (nothing, row)

    def step(self, token: Int[Tensor, " batch"], state: Any) -> tuple[Float[Tensor, "batch codes"], Any]:
        """Return the logits of the token after `token`, and the tokens so far."""
        tokens, row = torch.cat([state[0], token[:, None]], 1), state[1]
        return cast(Table, self.networks["table"]).next(tokens, row), (tokens, row)

    def decode(self, sample: Int[Tensor, "batch tokens"]) -> Sequences:
        """Return the samples as they are."""
        return Sequences(sample)

    def encode_media(self, media: Media) -> Int[Tensor, "batch tokens"]:
        """Return the tokens. Raises ValueError for media that are none."""
        if not isinstance(media, Sequences):
            raise ValueError(f"an oracle of tokens draws Sequences, not {type(media).__name__}")
        return media.tokens.to(self.latent().device)


@dataclass(frozen=True)
class TokenOracleSettings:
    """Nothing can be chosen about an oracle."""

    serves: ClassVar[tuple[str, ...]] = ()

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> TokenOracle:
        """Return the oracle of that name, in float32 whatever `dtype` is."""
        return TokenOracle.load(str(source), device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return nothing more than the sampler asks: no library draws an oracle."""
        return sampler
