"""Train a world's base model from nothing: an autoencoder, then a flow-matching network with its text encoders.

Three stages, each resumable: (1) the autoencoder on fresh renders; (2) the latents of a fixed data set of noisy
(caption, picture) pairs; (3) the network by the ordinary flow-matching loss

    E | v(x_t, t, c) - (noise - x_0) |^2,    x_t = (1 - t) x_0 + t noise,    t ~ sigmoid(N(time_mean, 1)).

Source: rectified flow with logit-normal times, Esser et al., arXiv 2403.03206, eq. 14 and section 3.1.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import yaml
from diffusers import StableDiffusion3Pipeline
from torch import Tensor, distributed, nn

from limner.core.errors import UserError
from limner.core.rng import Rng


class PairSource(Protocol):
    """A world, as far as pretraining is concerned."""

    def pair(self, rng: np.random.Generator, noisy_share: float) -> tuple[np.ndarray, str]:
        """Return one picture `[height, width, 3]` uint8 and its caption, which is noisy with that probability.

        The picture depends on `rng` alone.
        """
        ...


@dataclass(frozen=True)
class Pretraining:
    """How a base model is made.

    `noisy_share` of the captions lack a clause or state a wrong one, `early_noisy_share` in the first `early_steps` of
    the network, which learns the words sooner from cleaner ones; `dropped_share` are empty, so that guidance works.
    `divergence_weight` is reached half way through the autoencoder's steps. The larger it is, the more of a latent is
    noise that the network need not model, and the more a decoder forgives; the checker on reconstructions says when it
    is too large.
    """

    seed: int = 0
    noisy_share: float = 0.33
    early_noisy_share: float = 0.15
    early_steps: int = 10_500
    dropped_share: float = 0.1
    autoencoder_steps: int = 2400
    autoencoder_batch: int = 32
    autoencoder_lr: float = 2e-3
    divergence_weight: float = 1e-2
    num_pairs: int = 80_000
    steps: int = 16_000
    batch: int = 128
    lr: float = 3e-3
    warmup: int = 300
    weight_decay: float = 0.01
    ema: float = 0.999
    time_mean: float = 1.0
    """Training times are sigmoid(N(time_mean, 1)): 1 dwells where the caption decides what is drawn."""
    checkpoint_seconds: float = 180.0
    workers: int = 1
    """Processes that share each batch, one thread each: on a CPU they keep its cores busier than threads do."""
    compile: bool = False
    """Compile the transformer (torch.compile; needs a C++ compiler): about a tenth faster, a minute to start."""


Log = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Team:
    """Processes that share each batch: number `rank` of `size` takes every size-th row, and gradients are averaged."""

    rank: int = 0
    size: int = 1

    def average(self, parameters: Sequence[Tensor]) -> None:
        """Put the mean of all members' gradients in place of each one's own."""
        if self.size > 1:
            gradients = [p.grad for p in parameters if p.grad is not None]
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            distributed.all_reduce(flat)
            parts = (flat / self.size).split([gradient.numel() for gradient in gradients])
            torch._foreach_copy_(gradients, [p.view_as(g) for p, g in zip(parts, gradients, strict=True)])

    def wait(self) -> None:
        """Wait until every member is here."""
        if self.size > 1:
            distributed.barrier()


def pretrain(
    pipeline: StableDiffusion3Pipeline, world: PairSource, config: Pretraining, folder: Path, team: Team | None = None
) -> None:
    """Run what is left of the three stages in `folder`, then write the pipeline to `folder/pipeline` at half precision.

    Its configuration and log lie beside its parts.

    Text encoders stay float32: diffusers loads a module in float32 whatever its file holds, transformers as stored.
    """
    team = team or Team()
    if config.batch % team.size or config.autoencoder_batch % team.size:
        raise UserError(f"batch {config.batch} and autoencoder_batch {config.autoencoder_batch} must divide by workers")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(asdict(config), sort_keys=False))

    def log(row: Mapping[str, Any]) -> None:
        if team.rank > 0:
            return
        with open(folder / "log.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")
        print(" ".join(f"{k} {v:.5g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)

    train_autoencoder(pipeline, world, config, folder, log, team)
    if team.rank == 0:
        encode_pairs(pipeline, world, config, folder)
    team.wait()
    train_network(pipeline, *load_pairs(pipeline, folder), config, folder, log, team)
    if team.rank > 0:
        return
    pipeline.transformer.half()
    pipeline.vae.half()
    pipeline.save_pretrained(folder / "pipeline")
    shutil.copy(folder / "config.yaml", folder / "pipeline")
    lines = (folder / "log.jsonl").read_text().splitlines()
    last = {(row["stage"], row["step"]): line for line in lines for row in [json.loads(line)]}
    (folder / "pipeline" / "log.jsonl").write_text("".join(f"{line}\n" for line in last.values()))


def train_autoencoder(
    pipeline: StableDiffusion3Pipeline, world: PairSource, config: Pretraining, folder: Path, log: Log, team: Team
) -> None:
    """Fit the autoencoder: absolute and squared error, and a small divergence of the posterior from N(0, I)."""
    vae = pipeline.vae
    fit = _Fit(vae, config.autoencoder_lr, 0.0, config.autoencoder_steps, 100, config.ema, team)
    for step in fit.steps(folder / "autoencoder.pt", config.checkpoint_seconds):
        first = step * config.autoencoder_batch
        rows = range(first + team.rank, first + config.autoencoder_batch, team.size)
        pixels = _to_signed(_draw(world, config, "autoencoder", rows, 0.0)[0])
        posterior = vae.encode(pixels).latent_dist
        noise = Rng((config.seed, "posterior")).normal(torch.tensor(rows), tuple(posterior.mean.shape[1:]))
        error = vae.decode(posterior.mean + posterior.std * noise).sample - pixels
        divergence = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
        weight = config.divergence_weight * min(1.0, 2 * step / config.autoencoder_steps)
        loss = error.abs().mean() + error.square().mean() + weight * divergence
        fit.update(loss)
        if step % 50 == 0:
            errors = {"absolute": error.abs().mean().item(), "squared": error.square().mean().item()}
            log({"stage": "autoencoder", "step": step, **errors, "divergence": divergence.item()} | fit.seconds())
    fit.use_average()


def encode_pairs(pipeline: StableDiffusion3Pipeline, world: PairSource, config: Pretraining, folder: Path) -> None:
    """Write the latents and both captions of the data set to FOLDER/latents.pt, unless they are there."""
    if (folder / "latents.pt").exists():
        return
    latents, early, late = [], [], []
    with torch.inference_mode():
        for start in range(0, config.num_pairs, 250):
            rows = range(start, min(start + 250, config.num_pairs))
            pictures, texts = _draw(world, config, "pairs", rows, config.noisy_share)
            latents.append(pipeline.vae.encode(_to_signed(pictures)).latent_dist.mean)
            late += texts
            early += _draw(world, config, "pairs", rows, config.early_noisy_share)[1]
    _save(folder / "latents.pt", {"latents": torch.cat(latents), "captions": late, "early_captions": early})


def load_pairs(pipeline: StableDiffusion3Pipeline, folder: Path) -> tuple[Tensor, list[str], list[str]]:
    """Return the data set's scaled latents, captions and early captions; set the autoencoder's scale and shift."""
    data = torch.load(folder / "latents.pt", weights_only=True)
    mean, std = data["latents"].mean().item(), data["latents"].std().item()
    pipeline.vae.register_to_config(scaling_factor=1 / std, shift_factor=mean)
    return (data["latents"] - mean) / std, data["captions"], data["early_captions"]


def train_network(
    pipeline: StableDiffusion3Pipeline,
    latents: Tensor,
    captions: list[str],
    early_captions: list[str],
    config: Pretraining,
    folder: Path,
    log: Log,
    team: Team,
) -> None:
    """Fit the transformer and the text encoders together by flow matching."""
    networks = nn.ModuleDict(
        {name: pipeline.components[name] for name in ("transformer", "text_encoder", "text_encoder_2")}
    )
    networks.train()
    transformer = torch.compile(pipeline.transformer) if config.compile else pipeline.transformer
    fit = _Fit(networks, config.lr, config.weight_decay, config.steps, config.warmup, config.ema, team)
    mine = slice(team.rank, None, team.size)
    for step in fit.steps(folder / "network.pt", config.checkpoint_seconds):
        generator = Rng((config.seed, "network", step)).generator()
        chosen = torch.randint(len(captions), (config.batch,), generator=generator)
        dropped = torch.rand(config.batch, generator=generator) < config.dropped_share
        pool = early_captions if step < config.early_steps else captions
        texts = ["" if gone else pool[i] for i, gone in zip(chosen.tolist(), dropped.tolist(), strict=True)]
        context, _, pooled, _ = pipeline.encode_prompt(
            texts[mine], None, None, do_classifier_free_guidance=False, max_sequence_length=0
        )
        noise = torch.randn(config.batch, *latents.shape[1:], generator=generator)[mine]
        t = torch.sigmoid(config.time_mean + torch.randn(config.batch, generator=generator))[mine]
        x0 = latents[chosen[mine]]
        x_t = torch.lerp(x0, noise, t[:, None, None, None])
        velocity = transformer(
            hidden_states=x_t, timestep=1000 * t, encoder_hidden_states=context, pooled_projections=pooled
        ).sample
        loss = (velocity - (noise - x0)).square().mean()
        fit.update(loss)
        if step % 50 == 0:
            log({"stage": "network", "step": step, "loss": loss.item()} | fit.seconds())
    fit.use_average()
    networks.eval()


class _Fit:
    """AdamW with warm-up and cosine decay, an average of the weights, and a checkpoint every few minutes."""

    def __init__(
        self, module: nn.Module, lr: float, weight_decay: float, steps: int, warmup: int, ema: float, team: Team
    ) -> None:
        self.module, self.num_steps, self.ema, self.start, self.team = module, steps, ema, time.monotonic(), team
        self.parameters: list[Tensor] = list(module.parameters())
        self.average = [p.detach().clone() for p in self.parameters]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=lr, betas=(0.9, 0.99), weight_decay=weight_decay)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer,
            lambda step: min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * min(1.0, step / steps))),
        )
        self.step = 0

    def steps(self, path: Path, checkpoint_seconds: float) -> Iterator[int]:
        """Count the steps that are left, from the checkpoint at `path` if there is one, and keep it fresh."""
        if path.exists():
            state = torch.load(path, weights_only=True)
            self.module.load_state_dict(state["module"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            self.average, self.step = state["average"], state["step"]
        saved = time.monotonic()
        while self.step < self.num_steps:
            yield self.step
            self.step += 1
            due = self.step == self.num_steps or time.monotonic() - saved > checkpoint_seconds
            if due and self.team.rank == 0:
                saved = time.monotonic()
                _save(
                    path,
                    {
                        "module": self.module.state_dict(),
                        "optimizer": self.optimizer.state_dict(),
                        "schedule": self.schedule.state_dict(),
                        "average": self.average,
                        "step": self.step,
                    },
                )

    def update(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        self.team.average(self.parameters)
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.schedule.step()
        decay = min(self.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - decay)

    def use_average(self) -> None:
        """Put the averaged weights in place of the last ones."""
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, self.average)

    def seconds(self) -> dict[str, float]:
        return {"seconds": time.monotonic() - self.start}


def _draw(
    world: PairSource, config: Pretraining, purpose: str, rows: range, noisy_share: float
) -> tuple[Tensor, list[str]]:
    """Return pictures and captions; each depends on (seed, purpose, row) alone, and only a caption on the share."""
    pairs = [world.pair(np.random.default_rng(Rng((config.seed, purpose, row)).seed()), noisy_share) for row in rows]
    return torch.from_numpy(np.stack([picture for picture, _ in pairs])), [caption for _, caption in pairs]


def _to_signed(pictures: Tensor) -> Tensor:
    """Map uint8 `[n, h, w, 3]` to float `[n, 3, h, w]` in [-1, 1]."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


def _save(path: Path, state: Mapping[str, Any]) -> None:
    """Write atomically."""
    torch.save(dict(state), path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)
