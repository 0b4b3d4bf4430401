"""Train a world's base model from nothing: an autoencoder, then a denoising network with its text encoders.

Three stages, each resumable: (1) the autoencoder on fresh renders, then its decoder alone; (2) the latents of a fixed
data set of renders and noisy captions; (3) the network by its pipeline's ordinary loss, at times
t ~ sigmoid(N(time_mean, 1)).

Source: logit-normal times, Esser et al., arXiv:2403.03206, section 3.1.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn

from limner.core.errors import UserError
from limner.core.rng import Rng
from limner.core.settings import Count, Finite, Natural, NotNegative, Range, Share, settings
from limner.core.team import Team
from limner.training.fit import Fit, Log, begin, save


class PairSource(Protocol):
    """A world, as far as pretraining is concerned."""

    @property
    def pretraining(self) -> Mapping[str, Any]:
        """Settings that are its own where `Pretraining` has others."""
        ...

    def pair(self, rng: np.random.Generator, *noisy_shares: float) -> tuple[np.ndarray, list[str]]:
        """Return one picture `[height, width, 3]`, or clip `[frames, height, width, 3]`, uint8, and its captions.

        There is one for each share, noisy so often. What is shown depends on `rng` alone, a caption on its share too;
        without a share it is what an autoencoder learns from, which may be richer.
        """
        ...


class Fresh(Protocol):
    """A pipeline with random weights, as far as pretraining is concerned."""

    @property
    def pipeline(self) -> Any:
        """diffusers' pipeline, with an autoencoder `vae`."""
        ...

    @property
    def axes(self) -> int:
        """Axes of one thing that it shows: 3 of a picture, 4 of a clip."""
        ...

    @property
    def trained(self) -> tuple[str, ...]:
        """What learns, by its name in the pipeline: the denoiser first, then its text encoders."""
        ...

    def encoded(self, pixels: Tensor) -> Any:
        """Return what the autoencoder makes of values in [-1, 1]: diffusers' diagonal normal distribution."""
        ...

    def decoded(self, latents: Tensor) -> Tensor:
        """Return what the autoencoder makes of its latents, about in [-1, 1]."""
        ...

    def normalised(self, latents: Tensor) -> Tensor:
        """Return a data set's latents as the denoiser sees them; the autoencoder keeps how to undo it."""
        ...

    def loss(self, denoiser: nn.Module, x0: Tensor, texts: Sequence[str], noise: Tensor, t: Tensor) -> Tensor:
        """Return the mean loss of latents noised to times t in (0, 1), by `denoiser` or its compiled form."""
        ...


Portion: TypeAlias = Annotated[float, Range(least=0, most=1)]
Rate: TypeAlias = Annotated[float, Range(above=0, below=1)]


@settings
class Pretraining:
    """How a base model is made.

    `model` is the kind of pipeline: "sd3", "sd" for a UNet as in Stable Diffusion 1.5, or "wan" for clips.

    `noisy_share` of the captions lack a clause or state a wrong one, `early_noisy_share` in the first `early_steps` of
    the network, which learns the words sooner from cleaner ones; `dropped_share` are empty, so that guidance works.
    `divergence_weight` is reached half way through the autoencoder's steps. The larger it is, the more of a latent is
    noise that the network need not model, and the more a decoder forgives; the checker on reconstructions says when it
    is too large.
    """

    model: Literal["sd3", "sd", "wan"] = "sd3"
    seed: Natural = 0
    noisy_share: Portion = 0.33
    early_noisy_share: Portion = 0.15
    early_steps: Natural = 10_500
    dropped_share: Portion = 0.1
    latent_channels: Annotated[int, Range(least=1, most=1024)] = 8
    """Numbers at each place of a latent, a square of 8 x 8 pixels: 8 for scenes, 16 for the strokes of words.

    In clips that place is a square of 4 x 4 and two frames long, but for the first, which is a frame alone."""
    autoencoder_steps: Count = 2400
    autoencoder_batch: Annotated[int, Range(least=1, most=10_000)] = 32
    autoencoder_lr: Rate = 2e-3
    absolute_weight: NotNegative = 1.0
    """Of the mean absolute error beside the squared one. 0 for clips: so small things on a large ground weigh more."""
    divergence_weight: NotNegative = 1e-2
    decoder_steps: Natural = 0
    """Further steps of the decoder alone, by the squared error: what latents mean stays, what is drawn is sharper."""
    num_pairs: Annotated[int, Range(least=1, most=10**7)] = 80_000
    steps: Count = 16_000
    batch: Annotated[int, Range(least=1, most=10_000)] = 128
    lr: Rate = 3e-3
    warmup: Count = 300
    weight_decay: NotNegative = 0.01
    optimizer: Literal["adamw", "muon"] = "adamw"
    """Of the network: "muon" orthogonalises the steps of its blocks' matrices, and AdamW takes the rest."""
    ema: Share = 0.999
    time_mean: Finite = 1.0
    """Training times are sigmoid(N(time_mean, 1)): 1 dwells where the caption decides what is drawn."""
    checkpoint_seconds: NotNegative = 180.0
    workers: Annotated[int, Range(least=1, most=1024)] = 1
    """Processes that share each batch, one thread each: on a CPU they keep its cores busier than threads do."""
    compile: bool = False
    """Compile autoencoder and denoiser (torch.compile; needs a C++ compiler): faster, some minutes to start."""

    def __post_init__(self) -> None:
        if self.batch % self.workers or self.autoencoder_batch % self.workers:
            raise UserError(
                f"batch {self.batch} and autoencoder_batch {self.autoencoder_batch} must divide by workers "
                f"{self.workers}"
            )


HOW = ("workers", "compile", "checkpoint_seconds")
"""Settings that do not change what comes out, and may change when a folder goes on."""


def pretrain(fresh: Fresh, world: PairSource, config: Pretraining, folder: Path, team: Team | None = None) -> None:
    """Run what is left of the three stages in `folder`, then write the pipeline to `folder/pipeline` at half precision.

    Its configuration and log lie beside its parts.

    Text encoders stay float32: diffusers loads a module in float32 whatever its file holds, transformers as stored.
    """
    team = team or Team()
    log = begin(folder, asdict(config)) if team.rank == 0 else _silent
    pipeline = fresh.pipeline
    train_autoencoder(fresh, world, config, folder, log, team)
    train_decoder(fresh, world, config, folder, log, team)
    if team.rank == 0:
        encode_pairs(fresh, world, config, folder)
    team.wait()
    train_network(fresh, *load_pairs(fresh, folder), config, folder, log, team)
    if team.rank > 0:
        return
    pipeline.components[fresh.trained[0]].half()
    pipeline.vae.half()
    pipeline.save_pretrained(folder / "pipeline")
    finish(folder)


def _silent(row: Mapping[str, Any]) -> None:
    """Log nothing: another process does."""


def finish(folder: Path) -> None:
    """Put the configuration, and the last log line of each step, beside the parts in FOLDER/pipeline."""
    shutil.copy(folder / "config.yaml", folder / "pipeline")
    lines = (folder / "log.jsonl").read_text().splitlines()
    last = {(row["stage"], row["step"]): line for line in lines for row in [json.loads(line)]}
    (folder / "pipeline" / "log.jsonl").write_text("".join(f"{line}\n" for line in last.values()))


def train_autoencoder(fresh: Fresh, world: PairSource, config: Pretraining, folder: Path, log: Log, team: Team) -> None:
    """Fit the autoencoder: squared and absolute error, and a small divergence of the posterior from N(0, I)."""
    fit = Fit(fresh.pipeline.vae, config.autoencoder_lr, 0.0, config.autoencoder_steps, 100, config.ema, team)

    def measured(pixels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        posterior = fresh.encoded(pixels)
        error = fresh.decoded(posterior.mean + posterior.std * noise) - pixels
        divergence = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
        return error.abs().mean(), error.square().mean(), divergence

    measure = torch.compile(measured) if config.compile else measured
    shape = _latent_shape(fresh, world, config)
    for step in fit.steps(folder / "autoencoder.pt", config.checkpoint_seconds):
        absolute, squared, divergence = measure(*_fresh_batch(world, config, "autoencoder", step, shape, team))
        weight = config.divergence_weight * min(1.0, 2 * step / config.autoencoder_steps)
        fit.update(config.absolute_weight * absolute + squared + weight * divergence)
        if step % 50 == 0:
            errors = {"absolute": absolute.item(), "squared": squared.item()}
            log({"stage": "autoencoder", "step": step, **errors, "divergence": divergence.item()} | fit.seconds())
    fit.use_average()


def train_decoder(fresh: Fresh, world: PairSource, config: Pretraining, folder: Path, log: Log, team: Team) -> None:
    """Fit the decoder to what the encoder, which stays, makes of fresh renders."""
    if config.decoder_steps == 0:
        return
    vae = fresh.pipeline.vae
    parts = nn.ModuleList(part for part in (vae.post_quant_conv, vae.decoder) if part is not None)
    fit = Fit(parts, config.autoencoder_lr, 0.0, config.decoder_steps, 100, config.ema, team)

    def measured(pixels: Tensor, noise: Tensor) -> Tensor:
        with torch.no_grad():
            posterior = fresh.encoded(pixels)
            latents = posterior.mean + posterior.std * noise
        return (fresh.decoded(latents) - pixels).square().mean()

    measure = torch.compile(measured) if config.compile else measured
    shape = _latent_shape(fresh, world, config)
    for step in fit.steps(folder / "decoder.pt", config.checkpoint_seconds):
        squared = measure(*_fresh_batch(world, config, "decoder", step, shape, team))
        fit.update(squared)
        if step % 50 == 0:
            log({"stage": "decoder", "step": step, "squared": squared.item()} | fit.seconds())
    fit.use_average()


def _latent_shape(fresh: Fresh, world: PairSource, config: Pretraining) -> tuple[int, ...]:
    with torch.inference_mode():
        return tuple(fresh.encoded(to_signed(draw(world, config.seed, "autoencoder", range(1))[0])).mean.shape[1:])


def _fresh_batch(
    world: PairSource, config: Pretraining, purpose: str, step: int, shape: tuple[int, ...], team: Team
) -> tuple[Tensor, Tensor]:
    """Return this process's part of what a step of the autoencoder sees, and the noise on its latents."""
    first = step * config.autoencoder_batch
    rows = range(first + team.rank, first + config.autoencoder_batch, team.size)
    noise = Rng((config.seed, "posterior")).normal(torch.tensor(rows), shape)
    return to_signed(draw(world, config.seed, purpose, rows)[0]), noise


def encode_pairs(fresh: Fresh, world: PairSource, config: Pretraining, folder: Path) -> None:
    """Write the latents and both captions of the data set to FOLDER/latents.pt, unless they are there."""
    if (folder / "latents.pt").exists():
        return
    latents, early, late = [], [], []
    with torch.inference_mode():
        for start in range(0, config.num_pairs, 250):
            rows = range(start, min(start + 250, config.num_pairs))
            shown, texts = draw(world, config.seed, "pairs", rows, config.noisy_share, config.early_noisy_share)
            latents.append(fresh.encoded(to_signed(shown)).mean)
            late += [text for text, _ in texts]
            early += [text for _, text in texts]
    save(folder / "latents.pt", {"latents": torch.cat(latents), "captions": late, "early_captions": early})


def load_pairs(fresh: Fresh, folder: Path) -> tuple[Tensor, list[str], list[str]]:
    """Return the data set's latents as the denoiser sees them, captions and early captions."""
    data = torch.load(folder / "latents.pt", weights_only=True)
    return fresh.normalised(data["latents"]), data["captions"], data["early_captions"]


def train_network(
    fresh: Fresh,
    latents: Tensor,
    captions: list[str],
    early_captions: list[str],
    config: Pretraining,
    folder: Path,
    log: Log,
    team: Team,
) -> None:
    """Fit the denoiser and the text encoders together by the pipeline's own loss."""
    networks = nn.ModuleDict({name: fresh.pipeline.components[name] for name in fresh.trained})
    networks.train()
    denoiser = networks[fresh.trained[0]]
    denoiser = cast(nn.Module, torch.compile(denoiser)) if config.compile else denoiser
    matrices = block_matrices(networks) if config.optimizer == "muon" else []
    fit = Fit(
        networks, config.lr, config.weight_decay, config.steps, config.warmup, config.ema, team, matrices=matrices
    )
    mine = slice(team.rank, None, team.size)
    for step in fit.steps(folder / "network.pt", config.checkpoint_seconds):
        generator = Rng((config.seed, "network", step)).generator()
        chosen = torch.randint(len(captions), (config.batch,), generator=generator)
        dropped = torch.rand(config.batch, generator=generator) < config.dropped_share
        pool = early_captions if step < config.early_steps else captions
        texts = ["" if gone else pool[i] for i, gone in zip(chosen.tolist(), dropped.tolist(), strict=True)]
        noise = torch.randn(config.batch, *latents.shape[1:], generator=generator)[mine]
        t = torch.sigmoid(config.time_mean + torch.randn(config.batch, generator=generator))[mine]
        loss = fresh.loss(denoiser, latents[chosen[mine]], texts[mine], noise, t)
        fit.update(loss)
        if step % 50 == 0:
            log({"stage": "network", "step": step, "loss": loss.item()} | fit.seconds())
    fit.use_average()
    networks.eval()


def block_matrices(module: nn.Module) -> list[Tensor]:
    """Return the matrices of linear layers that stand in a list of blocks, where Muon is known to work."""
    blocks = [each for each in module.modules() if isinstance(each, nn.ModuleList)]
    found = {id(layer.weight): layer.weight for b in blocks for layer in b.modules() if isinstance(layer, nn.Linear)}
    return list(found.values())


def draw(
    world: PairSource, seed: int, purpose: str, rows: range, *noisy_shares: float
) -> tuple[Tensor, list[list[str]]]:
    """Return what is shown, and the captions of each; it depends on (seed, purpose, row) alone, captions on shares."""
    pairs = [world.pair(np.random.default_rng(Rng((seed, purpose, row)).seed()), *noisy_shares) for row in rows]
    return torch.from_numpy(np.stack([shown for shown, _ in pairs])), [captions for _, captions in pairs]


def to_signed(shown: Tensor) -> Tensor:
    """Map uint8 `[n, *axes, 3]` to float `[n, 3, *axes]` in [-1, 1]."""
    return shown.movedim(-1, 1).float() / 127.5 - 1
