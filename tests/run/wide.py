"""An iteration of the miniature in float64, or as it is, in a process of a team: its rewards and its gradients."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limner.build import assemble
from limner.core.rng import Rng
from limner.core.types import LatentSpec
from limner.engine.processes import Place
from limner.engine.weights import Weights
from limner.models.sd3.adapter import SD3
from limner.models.sd3.settings import SD3Settings
from limner.rollout.score import FailureBudget
from limner.training.config import Full, RunConfig
from limner.training.loop import Clock, learn
from limner.training.state import State
from run.process import CONTEXT, PATIENCE


class WideSD3(SD3):
    """An SD3 that computes in float64, and does not round what comes out."""

    def predict(self, x: Tensor, t: Tensor, condition: Any, prompt_index: Tensor) -> Tensor:
        index = t * self.pipeline.scheduler.config.num_train_timesteps
        rows = {name: each[prompt_index] for name, each in condition.items()}
        network = self.networks["transformer"]
        (velocity,) = network(x, rows["context"], rows["pooled"], index, return_dict=False)
        return velocity

    def latent(self) -> LatentSpec:
        return replace(super().latent(), dtype=torch.float64)


@dataclass(frozen=True)
class WideSettings(SD3Settings):
    """Loads a folder of Stable Diffusion 3 in float64."""

    def load(self, source: Any, dtype: torch.dtype, device: torch.device) -> Any:
        narrow = SD3.load(source, SD3Settings(), torch.float64, device)
        return WideSD3(narrow.pipeline, narrow.networks, narrow.settings, narrow.latent_size, torch.float64)


@dataclass(frozen=True)
class WideFull(Full):
    """All weights, in float64."""

    def weights(self, model: Any, **how: Any) -> Weights:
        found = super().weights(model, **how)
        for role in found.roles.values():
            for network in role.networks.values():
                network.double()
        return found


def widened(config: RunConfig) -> RunConfig:
    """Return the run with a network, latents and losses in float64."""
    return replace(config, model=replace(config.model, settings=WideSettings(), train=WideFull()))


@dataclass(frozen=True)
class Seen:
    """Of an iteration: everyone's rewards by sample, this process's samples, and the gradient of its optimizer step."""

    rewards: list[float]
    mine: int
    invalid: int
    gradients: Mapping[str, Tensor]


def iteration(config: RunConfig) -> Seen:
    """Draw, judge and take one optimizer step, in this process of its team."""
    parts = assemble(config).parts
    gradients: dict[str, Tensor] = {}

    def keep(*_: Any) -> None:
        gradients.update({name: each.grad.clone() for name, each in parts.weights.policy.items()})

    parts.stepper.optimizer.register_step_pre_hook(keep)
    rng, clock = Rng((config.seed, "train")).child(0), Clock(lambda phase: None, parts.team)
    own = parts.source.scored(parts.studio, 0, config.prompts_per_step, rng, clock, {})
    learn(config, parts, State(), own, clock, FailureBudget())
    rewards = parts.team.gather(own.total).nan_to_num(-1.0).tolist()
    return Seen(rewards, len(own.rollout), int((~own.valid).sum()), gradients)


def in_team(configs: Sequence[RunConfig], folder: Path, processes: int = 2) -> list[list[Seen]]:
    """Return of each process of a team what it saw of each configuration's iteration."""
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    files = [folder / f"seen-{rank}" for rank in range(processes)]
    every = []
    for rank, file in enumerate(files):
        told = Place(rank, processes, store.port).told()
        every.append(CONTEXT.Process(target=_member, args=(told, list(configs), str(file))))
        every[-1].start()
    for process in every:
        process.join(PATIENCE)
        assert process.exitcode == 0
    return [torch.load(file, weights_only=False) for file in files]


def _member(told: Mapping[str, str], configs: Sequence[RunConfig], file: str) -> None:
    os.environ |= told
    torch.set_num_threads(1)
    torch.save([iteration(config) for config in configs], file)
