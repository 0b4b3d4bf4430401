"""What bases of tokens and of masked tokens share: the codes of a data set of pictures, and a network's fit to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from limner.core.rng import Rng
from limner.core.team import ALONE
from limner.training.fit import Fit, Log, save
from limner.training.pretrain import PairSource, block_matrices, draw, to_signed


class CodeLoss(Protocol):
    """The loss of a batch: of captions, empty ones among them, and the codes of their pictures."""

    def __call__(
        self, texts: Sequence[str], codes: Int[Tensor, "batch tokens"], chance: torch.Generator, /
    ) -> Float[Tensor, ""]:
        """Return the mean loss in nats a code; `chance` draws what it needs."""
        ...


class CodeFitting(Protocol):
    """The settings of a fit to codes."""

    @property
    def seed(self) -> int: ...
    @property
    def dropped_share(self) -> float: ...
    @property
    def steps(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def lr(self) -> float: ...
    @property
    def warmup(self) -> int: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def optimizer(self) -> str: ...
    @property
    def ema(self) -> float: ...
    @property
    def checkpoint_seconds(self) -> float: ...


def encode_codes(vqvae: Any, world: PairSource, folder: Path, seed: int, num_pairs: int, noisy_share: float) -> None:
    """Write the codes and captions of the data set to FOLDER/codes.pt, unless they are there."""
    if (folder / "codes.pt").exists():
        return
    codes, captions = [], []
    with torch.inference_mode():
        for start in range(0, num_pairs, 250):
            rows = range(start, min(start + 250, num_pairs))
            pictures, texts = draw(world, seed, "pairs", rows, noisy_share)
            _, _, (_, _, chosen) = vqvae.quantize(vqvae.encode(to_signed(pictures)).latents)
            codes.append(chosen.view(len(rows), -1).short())
            captions += [text for (text,) in texts]
    save(folder / "codes.pt", {"codes": torch.cat(codes), "captions": captions})


def load_codes(folder: Path) -> tuple[Int[Tensor, "pairs tokens"], list[str]]:
    """Return what `encode_codes` wrote."""
    data = torch.load(folder / "codes.pt", weights_only=True)
    return data["codes"].long(), data["captions"]


def train_on_codes(network: nn.Module, loss: CodeLoss, config: CodeFitting, folder: Path, stage: str, log: Log) -> None:
    """Fit a network to the codes of the data set, a share of the captions left out; it ends with averaged weights."""
    codes, captions = load_codes(folder)
    network.train()
    matrices = block_matrices(network) if config.optimizer == "muon" else []
    fit = Fit(
        network, config.lr, config.weight_decay, config.steps, config.warmup, config.ema, ALONE, matrices=matrices
    )
    for step in fit.steps(folder / f"{stage}.pt", config.checkpoint_seconds):
        chance = Rng((config.seed, stage, step)).generator()
        chosen = torch.randint(len(captions), (config.batch,), generator=chance)
        dropped = torch.rand(config.batch, generator=chance) < config.dropped_share
        texts = ["" if gone else captions[i] for i, gone in zip(chosen.tolist(), dropped.tolist(), strict=True)]
        value = loss(texts, codes[chosen], chance)
        fit.update(value)
        if step % 25 == 0:
            log({"stage": stage, "step": step, "loss": value.item()} | fit.seconds())
    fit.use_average()
    network.eval()
