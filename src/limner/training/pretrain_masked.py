"""Train a world's masked base: a network that fills in what is hidden of a picture's codes, given its caption.

Stages, each resumable: (1) the codes of a fixed data set of noisy (caption, picture) pairs, by the tokenizer of a base
of tokens; (2) the network, by the likelihood of codes that are hidden. Of T codes max(1, round(T cos(pi u / 2))) are
hidden, with u spread evenly over (0, 1) in a batch: mostly many, for there the caption decides.

Source: Chang et al., arXiv:2202.04200, sections 3.1 and 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from limner.core.settings import Count, Natural, NotNegative, Range, Share, settings
from limner.training.fit import Log, begin
from limner.training.pretrain import PairSource, Portion, Rate, finish
from limner.training.pretrain_codes import encode_codes, load_codes, train_on_codes

HOW = ("compile", "checkpoint_seconds")
"""Settings that do not change what comes out, and may change when a folder goes on."""


class FreshMasked(Protocol):
    """A network that was not trained yet, and what encodes pictures and words, as far as pretraining is concerned."""

    @property
    def vqvae(self) -> Any:
        """diffusers' `VQModel`, of pictures in [-1, 1]."""
        ...

    @property
    def network(self) -> nn.Module:
        """What learns."""
        ...

    def conditions(self, texts: Sequence[str]) -> Any:
        """Return what the network is given of captions, a row each, and of the empty one last."""
        ...

    def loss(
        self,
        condition: Any,
        index: Int[Tensor, " batch"],
        codes: Int[Tensor, "batch tokens"],
        hidden: Bool[Tensor, "batch tokens"],
    ) -> Float[Tensor, ""]:
        """Return the mean loss in nats a hidden code, given the captions `index` of `condition`."""
        ...

    def save(self, folder: Path) -> None:
        """Write all parts as their library loads them, at half precision."""
        ...


@settings
class MaskedPretraining:
    """How a masked base is made.

    `noisy_share` of the captions lack a clause or state a wrong one; `dropped_share` are empty, so that guidance works.
    """

    model: Literal["amused"] = "amused"
    seed: Natural = 0
    words: str = ""
    """The base whose text encoder it has; empty: the one that is named as the world is."""
    codes: str = ""
    """The base whose tokenizer of pictures it has; empty: WORLD_tokens."""
    noisy_share: Portion = 0.2
    dropped_share: Portion = 0.1
    num_pairs: Annotated[int, Range(least=1, most=10**7)] = 24_000
    width: Annotated[int, Range(least=32, most=4096)] = 128
    """Of the network; a multiple of 32."""
    steps: Count = 4000
    batch: Annotated[int, Range(least=1, most=10_000)] = 64
    lr: Rate = 3e-3
    warmup: Count = 100
    weight_decay: NotNegative = 0.01
    optimizer: Literal["adamw", "muon"] = "muon"
    """"muon" orthogonalises the steps of the blocks' matrices, and AdamW takes the rest."""
    ema: Share = 0.995
    compile: bool = False
    """Compile the network (torch.compile; needs a C++ compiler)."""
    checkpoint_seconds: NotNegative = 180.0

    def bases(self, world: str) -> tuple[str, str]:
        """Return the names of the bases whose words, and whose tokenizer of pictures, a base of `world` has."""
        return self.words or world, self.codes or f"{world}_tokens"


def hidden_places(batch: int, length: int, generator: torch.Generator) -> Bool[Tensor, "batch tokens"]:
    """Return which codes of each sample are hidden: max(1, round(T cos(pi u / 2))), u one in each part of (0, 1)."""
    u = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch
    count = (length * torch.cos(math.pi / 2 * u)).round().clamp(min=1)
    rank = torch.rand(batch, length, generator=generator).argsort(1).argsort(1)
    return rank < count[:, None]


def train_network(fresh: FreshMasked, config: MaskedPretraining, folder: Path, log: Log) -> None:
    """Fit the network to the codes of the data set, some of them hidden."""
    captions = sorted({*load_codes(folder)[1]})
    place = {caption: i for i, caption in enumerate([*captions, ""])}
    condition = fresh.conditions(captions)
    if config.compile:
        fresh.network.compile()

    def loss(texts: Sequence[str], codes: Int[Tensor, "batch tokens"], chance: torch.Generator) -> Float[Tensor, ""]:
        index = torch.tensor([place[text] for text in texts])
        return fresh.loss(condition, index, codes, hidden_places(codes.shape[0], codes.shape[1], chance))

    train_on_codes(fresh.network, loss, config, folder, "masked", log)


def pretrain_masked(fresh: FreshMasked, world: PairSource, config: MaskedPretraining, folder: Path) -> None:
    """Run what is left of the stages in `folder`, then write the pipeline to `folder/pipeline`."""
    log = begin(folder, asdict(config))
    encode_codes(fresh.vqvae, world, folder, config.seed, config.num_pairs, config.noisy_share)
    train_network(fresh, config, folder, log)
    fresh.save(folder / "pipeline")
    finish(folder)
