"""Every training algorithm on the oracle worlds: how much of what can be gained at its distance from the base it gains.

`limner bench oracles` trains each entry on o1, o2 and o3, as `limner train` would, and measures what came out exactly
(`limner.bench.exact`): on o1 and o2 the policy is affine, and what its sampler draws is Gaussian; on o3 the density of
the ODE over the trained weights follows by the change of variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Literal

import torch

from limner.algorithms.awm import AWM
from limner.algorithms.d3po import D3PO
from limner.algorithms.ddpo import DDPO
from limner.algorithms.dgpo import DGPO
from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.algorithms.dpo import DPO
from limner.algorithms.dspo import DSPO
from limner.algorithms.flow_dppo import FlowDPPO
from limner.algorithms.flow_grpo import FlowGRPO
from limner.algorithms.grpo_guard import GRPOGuard
from limner.algorithms.kto import KTO
from limner.algorithms.mapo import MaPO
from limner.algorithms.ppo import PPO
from limner.algorithms.reward_weighted import RewardWeighted
from limner.algorithms.trpo import TRPO
from limner.bench import exact, fields, grid
from limner.bench.annotated import Annotated
from limner.build import Assembly, assemble
from limner.core.protocols import Algorithm
from limner.core.rng import Rng
from limner.diffusion.dynamics import Dynamics, EulerODE, FlowSDE
from limner.objectives.tilt import Quadratic, discrete_kl, discrete_tilt, frontier, normal_kl, normal_tilt
from limner.policies.denoising import Denoising, Sampler
from limner.training.config import Full, Model, Optimizer, RunConfig
from limner.training.loop import Hooks, train
from limner.training.source import Drawn
from limner.training.state import State
from limner.worlds.annotator import Annotator
from limner.worlds.oracle.model import Oracle
from limner.worlds.oracle.world import WORLDS

ORACLE = "limner.worlds.oracle.model:OracleSettings"
SAMPLES = 128
"""Samples of an iteration."""
POINTS = 1024
"""Samples that o3's measures are means over."""


@dataclass(frozen=True)
class Entry:
    """An algorithm, its sampler, and where groups divide; iterations and learning rates for (o1 and o2, o3)."""

    algorithm: Algorithm
    dynamics: Dynamics
    steps: tuple[int, int] = (100, 100)
    schedule: Literal["constant", "cosine"] = "constant"
    lr: tuple[float, float] = (2e-2, 2e-3)
    splits: tuple[int, ...] = ()
    kl_weight: float = 0.0
    """The weight of the sum of the decisions' KL in the entry's objective; 0 where it has no such objective."""
    groups: int = 4
    """Into how many groups the samples of an iteration fall."""
    given: bool = False
    """Whether it learns from pairs of the base's samples that an annotator compared, as groups of two."""
    parting: tuple[int, int] | None = None
    """Samples of a group share their start up to a step in this range, and that step is the only one with noise."""


KL = 0.3
"""The weight of penalties."""
penalised = partial(Entry, steps=(400, 2000), schedule="cosine", kl_weight=KL)
"""An entry with a penalty, and as long as it takes to where it stops."""
NOISE = 0.5
"""Of the annotator: 88 of 100 answers tell samples apart that differ by 1."""
paired = partial(Entry, schedule="cosine", steps=(100, 200), lr=(2e-2, 5e-3), groups=32)
"""An entry that learns from the best and the worst of a group, or from two that are given."""
ENTRIES = {
    "Flow-GRPO": Entry(FlowGRPO(num_updates=1), FlowSDE()),
    "Flow-GRPO, KL 0.3": penalised(FlowGRPO(num_updates=1, scale="none", kl_weight=KL), FlowSDE(), lr=(2e-2, 3e-2)),
    "BranchGRPO": Entry(
        FlowGRPO(num_updates=1, scale="depth", ddof=1, epsilon=1e-8), FlowSDE(), splits=(0, 1, 2, 3, 4)
    ),
    "REINFORCE": Entry(DDPO(surrogate="score"), FlowSDE()),
    "DDPO": Entry(DDPO(num_updates=2), FlowSDE()),
    "PPO": Entry(PPO(), FlowSDE()),
    "DPOK": penalised(PPO(surrogate="clip", decay=1.0, normalise=False, kl_weight=KL), FlowSDE(), lr=(4e-2, 3e-2)),
    "TRPO": Entry(TRPO(), FlowSDE()),
    "GRPO-Guard": Entry(GRPOGuard(num_updates=1), FlowSDE()),
    "Flow-DPPO": Entry(FlowDPPO(num_updates=1), FlowSDE()),
    "DiffusionNFT, on policy": Entry(DiffusionNFT(kl_weight=0.0, decay="none"), EulerODE()),
    "DiffusionNFT": Entry(DiffusionNFT(decay_rate=0.02), EulerODE()),
    "DGPO": Entry(DGPO(), EulerODE()),
    "AWM": Entry(AWM(), EulerODE()),
    "ELBO": Entry(AWM(weighting="uniform", kl_weight=0.0), EulerODE()),
    "RWR": Entry(RewardWeighted(temperature=1.0), EulerODE()),
    "RAFT": Entry(RewardWeighted(weight="best"), EulerODE()),
    "DPO": paired(DPO(beta=2.0), EulerODE(), given=True),
    "DPO, beta 8": paired(DPO(beta=8.0), EulerODE(), given=True, steps=(200, 300), lr=(2e-2, 1e-2)),
    "DPO, online": paired(DPO(beta=8.0, refresh=10), EulerODE()),
    "IPO": paired(DPO(beta=0.5, loss="ipo"), EulerODE(), given=True),
    "KTO": paired(KTO(beta=8.0), EulerODE(), given=True),
    "DSPO": paired(DSPO(beta=0.3), EulerODE(), given=True),
    "MaPO": paired(MaPO(margin_scale=4.0), EulerODE(), given=True),
    "D3PO": paired(D3PO(beta=1.0, clip=0.5), FlowSDE()),
    "SPO": paired(D3PO(beta=10.0, clip=0.5), FlowSDE(), lr=(2e-2, 2e-3), parting=(0, 8)),
}


@dataclass(frozen=True)
class Point:
    """What a policy is at one moment of its training."""

    iteration: int
    evaluations: int
    reward: float
    """E[r] minus that of the base."""
    kl: float
    """KL(policy || base) in nats."""
    frontier: float
    """The most that `reward` can be at this KL."""
    modes: tuple[float, ...]
    """On o3, the share of each mode."""
    objective: float | None = None
    """The share that it has of the optimum of its own objective; None where that is not known.

    That is E[r] - kl_weight sum KL, or, of given pairs, how far DPO's loss can fall (`limner.bench.fields`).
    """


def config(entry: Entry, world: str, prediction: str, seed: int) -> RunConfig:
    """Return the run of an entry: 128 samples an iteration, in 10 steps where they are drawn."""
    deep = world == "o3"
    groups = SAMPLES // 2 if entry.given else entry.groups
    sampler = Sampler(dynamics=entry.dynamics, steps=10, splits=entry.splits)
    if entry.parting:
        sampler = replace(sampler, window=1, window_range=entry.parting, shared_start=True)
    return RunConfig(
        name="oracle",
        model=Model(kind=ORACLE, path=world + ("-noise" if prediction == "noise" else ""), train=Full()),
        prompts="oracle:train",
        reward=world,
        source=Annotated(annotator(world)) if entry.given else Drawn(),
        algorithm=entry.algorithm,
        sampler=sampler,
        optimizer=Optimizer(lr=entry.lr[deep], schedule=entry.schedule),
        steps=entry.steps[deep],
        prompts_per_step=groups,
        group_size=SAMPLES // groups,
        micro_batch=2048,
        seed=seed,
        device="cpu",
    )


def annotator(world: str) -> Annotator:
    """Return who compares given pairs."""
    return Annotator(world, noise=NOISE)


def curve(entry: Entry, world: str, prediction: str = "velocity", seed: int = 0, points: int = 10) -> list[Point]:
    """Train an entry, and return what it was along the way, `points` times after the start."""
    settings = config(entry, world, prediction, seed)
    settings = replace(settings, evaluation=replace(settings.evaluation, every=max(1, settings.steps // points)))
    assembly = assemble(settings)
    state, found = State(), []

    def measure(state: State) -> dict[str, float]:
        found.append(_point(assembly, world, entry, state))
        return {}

    measure(state)
    train(settings, assembly.parts, state, Hooks(Silent(), Silent(), lambda state: None, measure))
    return found


class Silent:
    """Neither a progress line nor a log."""

    def phase(self, name: str, part: float | None = None) -> None: ...

    def step(self, done: int, mean: float, spread: float) -> None: ...

    def log(self, step: int, values: Mapping[str, float]) -> None: ...


def _point(assembly: Assembly, world: str, entry: Entry, state: State) -> Point:
    policy, base = (_double(assembly, role) for role in ("policy", "reference"))
    measure = _mixture if world == "o3" else _gaussian
    with torch.no_grad():
        found = measure(world, policy, base, entry.kl_weight)
        if entry.given and isinstance(entry.algorithm, DPO):
            known = fields.least(str(assembly.config.model.path), entry.algorithm, annotator(world))
            found["objective"] = fields.share(policy, base, entry.algorithm, known)
    return Point(iteration=state.iteration, evaluations=state.evaluations, **found)


def _double(assembly: Assembly, role: Any) -> Denoising:
    """Return the policy over a float64 copy of a role's weights."""
    networks = assembly.parts.weights.roles[role].networks
    copies = {name: deepcopy(network).double() for name, network in networks.items()}
    assert isinstance(assembly.model, Oracle)
    return Denoising(assembly.model.with_networks(copies), assembly.config.sampler)


def _gaussian(world: str, policy: Denoising, base: Denoising, kl_weight: float) -> dict[str, Any]:
    """Return the measures of an affine policy, exactly."""
    reward = _quadratic(world)
    chains = exact.steps(policy), exact.steps(base)
    q, p = exact.drawn(chains[0]), exact.drawn(chains[1])
    ground, kl = float(reward.mean(p)), float(normal_kl(q, p))
    most = frontier(
        kl,
        lambda beta: float(normal_kl(normal_tilt(p, reward, beta), p)),
        lambda beta: float(reward.mean(normal_tilt(p, reward, beta))),
    )
    gained = float(reward.mean(q)) - ground
    objective = None
    if kl_weight:
        best = float(exact.best_objective(chains[1], reward, kl_weight)) - ground
        objective = (gained - kl_weight * float(exact.path_kl(*chains))) / best
    return {"reward": gained, "kl": kl, "frontier": most - ground, "modes": (), "objective": objective}


def _mixture(world: str, policy: Denoising, base: Denoising, kl_weight: float) -> dict[str, Any]:
    """Return the measures of a policy on modes, from POINTS samples of the ODE over its weights.

    Its own objective is that of the sampler it learnt with, which has noise.
    """
    truth = WORLDS[world].base
    noise = Rng(("oracle", world)).normal(torch.arange(POINTS), (2,))
    moved, ground = (Denoising(each.model, each.sampler.plain()) for each in (policy, base))
    sample, log_density = exact.push(moved, noise)
    kl = float((log_density - exact.log_density(ground, sample)).mean())
    shares = [
        torch.bincount(truth.nearest(x), minlength=len(truth.weights)).double() / POINTS
        for x in (exact.push(ground, noise)[0], sample)
    ]
    rewards = torch.as_tensor(WORLDS[world].reward).double()
    most = frontier(
        kl,
        lambda beta: float(discrete_kl(discrete_tilt(shares[0], rewards, beta), shares[0])),
        lambda beta: float(discrete_tilt(shares[0], rewards, beta) @ rewards),
    )
    before, after = (float(share @ rewards) for share in shares)
    objective = None
    if kl_weight:
        least, best = _objectives(world, base.sampler, kl_weight)
        objective = (grid.objective(policy, base, _of_modes(world), kl_weight) - least) / (best - least)
    modes = tuple(shares[1].tolist())
    return {"reward": after - before, "kl": kl, "frontier": most - before, "modes": modes, "objective": objective}


@cache
def _objectives(world: str, sampler: Sampler, kl_weight: float) -> tuple[float, float]:
    """Return what the base has of a penalised objective, and the most that can be had; once for all seeds."""
    model = Oracle.load(world)
    model.networks["residual"].double()
    base, reward = sampler.policy(model), _of_modes(world)
    return grid.objective(base, base, reward, kl_weight), grid.best_objective(base, reward, kl_weight)


def _of_modes(world: str) -> grid.Reward:
    return lambda x: WORLDS[world].score(x).double()


def _quadratic(world: str) -> Quadratic:
    reward = WORLDS[world].reward
    assert isinstance(reward, Quadratic)
    return Quadratic(*(part.double() for part in reward))


def efficiency(point: Point) -> float:
    """Return the share of the reward that could be gained at its KL, NaN for a policy that has not moved."""
    return point.reward / point.frontier if point.frontier > 0 else float("nan")
