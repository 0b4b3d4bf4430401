"""A generator of tokens as another package would bring it: four grey squares, written one after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from limner.core.media import Images, Media
from limner.core.protocols import Algorithm
from limner.core.types import LatentSpec, Prompt
from toys import Bigrams, ToyTokens

LEVELS, SIDE = 4, 4


@dataclass(frozen=True, eq=False)
class Writer:
    """Token k is a square of grey level k / 3; prompts are told apart by the length of their text."""

    network: Bigrams
    lora_targets: ClassVar[Sequence[str]] = ()
    pipeline_name: ClassVar[str] = "ToyWriter"
    left_out: ClassVar[Sequence[str]] = ()

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"network": self.network}

    def with_networks(self, networks: Mapping[str, nn.Module]) -> Writer:
        return replace(self, network=networks["network"])

    def encode(self, prompts: Sequence[Prompt]) -> Tensor:
        return torch.tensor([*(1 + len(prompt.text) % 7 for prompt in prompts), 0])

    def decode(self, sample: Tensor) -> Images:
        grey = (sample / (LEVELS - 1)).repeat_interleave(SIDE, 1)
        return Images(grey[:, None, None].expand(-1, 3, SIDE, -1))

    def encode_media(self, media: Media) -> Tensor:
        return (media.frames()[:, 0, 0, 0, ::SIDE] * (LEVELS - 1)).round().long()

    def latent(self) -> LatentSpec:
        return LatentSpec((4,), torch.long, self.network.table.device)

    def export_full(self, folder: Path) -> None:
        torch.save(self.network.state_dict(), folder / "network.pt")


@dataclass(frozen=True)
class WriterSettings:
    """Nothing can be chosen."""

    serves: ClassVar[Sequence[str]] = ()

    def load(self, source: str | Path, dtype: torch.dtype, device: torch.device) -> Writer:
        return Writer(Bigrams(4, LEVELS).to(device))

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        return sampler


@dataclass(frozen=True)
class Writing:
    """Token by token, each drawn from the network's own probabilities."""

    def policy(self, model: Writer) -> ToyTokens:
        return ToyTokens(model.network)

    def require(self, algorithm: Algorithm, group_size: int) -> None:
        """Any algorithm on decisions."""

    def plain(self, steps: int | None = None, guidance: float | None = None) -> Writing:
        return self

    def described(self) -> Mapping[str, str]:
        return {"Sampler": "token by token"}

    def call(self) -> Mapping[str, Any]:
        return {}
