"""Train a world's base of tokens: a tokenizer of pictures, then a decoder that writes them after their captions.

Stages, each resumable: (1) the tokenizer, which begins as the autoencoder of another base with the clusters of its
latents for codes, and then what makes pixels of codes alone; (2) the codes of a fixed data set of noisy (caption,
picture) pairs; (3) the decoder, by the likelihood of the codes and, where a weight is given, by telling captions of
equal words apart. A base of tokens can be gone on with: its stage (1) is done.

Source: van den Oord et al., arXiv:1711.00937, eq. 3 (tokenizer); Sun et al., arXiv:2406.06525, section 2 (decoder);
captions of exchanged words as negatives, Yuksekgonul et al., arXiv:2210.01936 (there for CLIP's loss).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from limner.core.errors import UserError
from limner.core.settings import Count, Natural, NotNegative, Range, Share, settings
from limner.core.team import ALONE
from limner.training.fit import Fit, Log, begin
from limner.training.pretrain import PairSource, Portion, Rate, draw, finish, to_signed
from limner.training.pretrain_codes import encode_codes, train_on_codes

SAMPLED = 400
"""Pictures whose latents are clustered into the first codes, and tell later which codes are used."""
LLOYD = 10
"""Rounds of that clustering."""
HOW = ("compile", "checkpoint_seconds")
"""Settings that do not change what comes out, and may change when a folder goes on."""
RESTART_EVERY = 100
"""Steps after which codes that no latent is near begin again, in the first half of the tokenizer's training."""


class FreshTokens(Protocol):
    """A tokenizer and a decoder that were not trained yet, as far as pretraining is concerned."""

    @property
    def vqvae(self) -> Any:
        """diffusers' `VQModel`."""
        ...

    @property
    def decoder(self) -> nn.Module:
        """What learns in the last stage."""
        ...

    @property
    def begun(self) -> Path | None:
        """The base whose parts these are, where they are not new."""
        ...

    def nats(self, texts: Sequence[str], codes: Int[Tensor, "batch tokens"]) -> Float[Tensor, " batch"]:
        """Return the negative log-likelihood of each picture's codes after its caption, in nats."""
        ...

    def save(self, folder: Path) -> None:
        """Write both as their libraries load them, at half precision."""
        ...


@runtime_checkable
class WordOrder(Protocol):
    """A world in whose captions the order of words says which of them belong together."""

    def reordered(self, caption: str) -> list[str]:
        """Return captions of the same words that say something else; of some captions there are none."""
        ...


@settings
class TokenPretraining:
    """How a base of tokens is made.

    `noisy_share` of the captions lack a clause or state a wrong one; `dropped_share` are empty, so that guidance works.
    """

    model: Literal["tokens"] = "tokens"
    seed: Natural = 0
    start: str = ""
    """The base, or its folder, whose autoencoder the tokenizer begins as; empty: the one that is named as the world is.

    A base of tokens is gone on with: its tokenizer stays, and its decoder learns further."""
    noisy_share: Portion = 0.25
    dropped_share: Portion = 0.1
    num_codes: Annotated[int, Range(least=2, most=65_536)] = 512
    """Codes a token is one of; a picture has a token for each square of 8 x 8 pixels."""
    tokenizer_steps: Count = 1200
    tokenizer_batch: Annotated[int, Range(least=1, most=10_000)] = 24
    tokenizer_lr: Rate = 1.5e-3
    tokenizer_ema: Share = 0.99
    restoring_steps: Count = 400
    """Steps after these in which codes stay, and only what makes pixels of them learns."""
    commitment: NotNegative = 0.25
    """Weight of a latent's squared distance from its code; the code's from its latent weighs a quarter of it."""
    num_pairs: Annotated[int, Range(least=1, most=10**7)] = 80_000
    steps: Count = 16_000
    batch: Annotated[int, Range(least=1, most=10_000)] = 32
    lr: Rate = 3e-3
    warmup: Count = 200
    weight_decay: NotNegative = 0.01
    optimizer: Literal["adamw", "muon"] = "adamw"
    """Of the decoder: "muon" orthogonalises the steps of its layers' matrices, and AdamW takes the rest."""
    contrast: NotNegative = 0.0
    """Weight of -log sigmoid(log p(codes | caption) - log p(codes | other)) beside the likelihood in nats a code, where
    `other` has the words of the caption in an order that says something else."""
    ema: Share = 0.995
    compile: bool = False
    """Compile the decoder (torch.compile; needs a C++ compiler): two thirds of the time, some minutes to start."""
    checkpoint_seconds: NotNegative = 180.0


def train_tokenizer(vqvae: Any, world: PairSource, config: TokenPretraining, folder: Path, log: Log) -> None:
    """Fit the tokenizer: absolute and squared error, and the distance between latents and their codes."""
    codebook = vqvae.quantize.embedding.weight.detach()
    codebook.copy_(clusters(_latents(vqvae, world, config, "codebook"), len(codebook)))
    fit = Fit(vqvae, config.tokenizer_lr, 0.0, config.tokenizer_steps, 100, config.tokenizer_ema, ALONE)
    for step in fit.steps(folder / "tokenizer.pt", config.checkpoint_seconds):
        if step % RESTART_EVERY == 0 and 0 < step < config.tokenizer_steps // 2:
            restart(codebook, _latents(vqvae, world, config, f"restart {step}"))
        rows = range(step * config.tokenizer_batch, (step + 1) * config.tokenizer_batch)
        pixels = to_signed(draw(world, config.seed, "tokenizer", rows)[0])
        quantised, distance, _ = vqvae.quantize(vqvae.encode(pixels).latents)
        error = vqvae.decode(quantised, force_not_quantize=True).sample - pixels
        fit.update(error.abs().mean() + error.square().mean() + config.commitment * distance)
        if step % 25 == 0:
            errors = {"absolute": error.abs().mean().item(), "squared": error.square().mean().item()}
            log({"stage": "tokenizer", "step": step, **errors, "distance": distance.item()} | fit.seconds())
    fit.use_average()


def train_restoration(vqvae: Any, world: PairSource, config: TokenPretraining, folder: Path, log: Log) -> None:
    """Fit what makes pixels of codes: pictures become sharper, and no code of any picture changes."""
    shown = nn.ModuleList([vqvae.post_quant_conv, vqvae.decoder])
    fit = Fit(shown, config.tokenizer_lr, 0.0, config.restoring_steps, 20, config.tokenizer_ema, ALONE)
    for step in fit.steps(folder / "restoration.pt", config.checkpoint_seconds):
        rows = range(step * config.tokenizer_batch, (step + 1) * config.tokenizer_batch)
        pixels = to_signed(draw(world, config.seed, "restoration", rows)[0])
        with torch.no_grad():
            quantised, _, _ = vqvae.quantize(vqvae.encode(pixels).latents)
        error = vqvae.decode(quantised, force_not_quantize=True).sample - pixels
        fit.update(error.abs().mean() + error.square().mean())
        if step % 25 == 0:
            log({"stage": "restoration", "step": step, "absolute": error.abs().mean().item()} | fit.seconds())
    fit.use_average()


@torch.no_grad()
def _latents(vqvae: Any, world: PairSource, config: TokenPretraining, purpose: str) -> Float[Tensor, "places width"]:
    """Return the latents of all places of some pictures, one after another."""
    pixels = to_signed(draw(world, config.seed, purpose, range(SAMPLED))[0])
    latents = torch.cat([vqvae.encode(part).latents for part in pixels.split(50)])
    return latents.permute(0, 2, 3, 1).flatten(0, 2)


def restart(codebook: Float[Tensor, "codes width"], latents: Float[Tensor, "places width"]) -> None:
    """Put the latents that are farthest from their codes in place of the codes that no latent is nearest to."""
    distance, nearest = torch.cdist(latents, codebook).min(1)
    unused = torch.bincount(nearest, minlength=len(codebook)) == 0
    codebook[unused] = latents[distance.topk(int(unused.sum())).indices]


def clusters(points: Float[Tensor, "points width"], count: int) -> Float[Tensor, "count width"]:
    """Return `count` centres of `points` by Lloyd's algorithm; the first are points that lie evenly in their order.

    A centre that no point is nearest to stays where it was.
    """
    centres = points[torch.linspace(0, len(points) - 1, count).long()].clone()
    for _ in range(LLOYD):
        nearest = torch.cdist(points, centres).argmin(1)
        sizes = torch.bincount(nearest, minlength=count)[:, None]
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        centres = torch.where(sizes > 0, sums / sizes.clamp(min=1), centres)
    return centres


def train_decoder(fresh: FreshTokens, world: PairSource, config: TokenPretraining, folder: Path, log: Log) -> None:
    """Fit the decoder to the codes of the data set, each after its caption."""
    if config.compile:
        for part in fresh.decoder.children():
            part.compile(dynamic=True)

    def loss(texts: Sequence[str], codes: Int[Tensor, "batch tokens"], chance: torch.Generator) -> Float[Tensor, ""]:
        if not (config.contrast and isinstance(world, WordOrder)):
            return fresh.nats(texts, codes).mean() / codes.shape[1]
        others = [one_of(world.reordered(text), chance) if text else "" for text in texts]
        rows = [i for i, other in enumerate(others) if other]
        nats = fresh.nats([*texts, *(others[i] for i in rows)], torch.cat([codes, codes[rows]]))
        own, other = nats[: len(texts)], nats[len(texts) :]
        told_apart = functional.logsigmoid(other - own[rows]).sum() / max(1, len(rows))
        return own.mean() / codes.shape[1] - config.contrast * told_apart

    train_on_codes(fresh.decoder, loss, config, folder, "decoder", log)


def one_of(texts: Sequence[str], chance: torch.Generator) -> str:
    """Return one of the texts, each as likely, or an empty one if there is none."""
    return texts[int(torch.randint(len(texts), (), generator=chance))] if texts else ""


def pretrain_tokens(fresh: FreshTokens, world: PairSource, config: TokenPretraining, folder: Path) -> None:
    """Run what is left of the stages in `folder`, then write the model to `folder/pipeline`."""
    if config.contrast and not isinstance(world, WordOrder):
        raise UserError("--contrast: no captions of this world say something else in other orders; leave it away")
    log = begin(folder, asdict(config))
    if fresh.begun is None:
        train_tokenizer(fresh.vqvae, world, config, folder, log)
        train_restoration(fresh.vqvae, world, config, folder, log)
    encode_codes(fresh.vqvae, world, folder, config.seed, config.num_pairs, config.noisy_share)
    train_decoder(fresh, world, config, folder, log)
    fresh.save(folder / "pipeline")
    finish(folder)
