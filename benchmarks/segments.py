"""Do judged segments teach more than judged clips (DenseDPO, eq. 7)? On an oracle, where what was learned is exact.

    python benchmarks/segments.py [--seeds 30] --out docs/results/segments.json

A clip is `SEGMENTS` independent N(0, 1), one a segment, and worth their sum. An annotator compares two clips segment by
segment, with Gaussian noise on each judgement. "segments" learns from the signs of these judgements, "clips" from the
sign of their sum, of the same pairs: DPO with equal settings by plain gradient steps, each pair seen once. Reported is
E[r] gained, the KL divergence from the base in nats, and the gain as a share of the most that can be had at that KL,
sqrt(2 1'P1 KL) with P the base's covariance: mean over seeds and half the width of a 95 % interval (Student's t);
exact, of what ten steps of the ODE draw.
"""

from __future__ import annotations

import argparse
import json
import math
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor

from limner.algorithms.dpo import DPO
from limner.bench import exact
from limner.core.protocols import Actors, Context
from limner.core.rng import Rng
from limner.core.types import Batch, Prompt, Rollout
from limner.diffusion.dynamics import EulerODE
from limner.diffusion.schedule import RectifiedFlow
from limner.evaluate.statistics import mean_interval
from limner.learning.passes import optimizer_steps
from limner.objectives.tilt import Quadratic, normal_kl
from limner.policies.denoising import Denoising, Sampler
from limner.worlds.oracle.model import AffineResidual, Oracle
from limner.worlds.oracle.world import Mixture, World

SEGMENTS = 4
NOISE = {"none": 0.0, "as much as two segments differ": math.sqrt(2)}
"""Standard deviation of the annotator's noise on a segment's difference, which has sqrt(2) itself."""
PAIRS = (32, 128, 512)
"""Pairs seen when it is measured."""
BATCH = 8
DPO_HERE = DPO(beta=2.0)
LR = 0.1


def oracle() -> Oracle:
    """Return the perfect denoiser of the clips, and what is trained of it."""
    normal = Mixture(torch.ones(1), torch.zeros(1, SEGMENTS), 1.0)
    world = World(normal, Quadratic(torch.ones(SEGMENTS), torch.zeros(SEGMENTS, SEGMENTS)))
    return Oracle(world, {"residual": AffineResidual(SEGMENTS)}, RectifiedFlow(), "velocity")


def compared(step: int, seed: int, noise: float, segments: bool) -> Batch:
    """Return pairs that nobody saw before, and which is better: in each segment, or as a whole."""
    generator = torch.Generator().manual_seed(100_000 * seed + step)
    clips = torch.randn(BATCH, 2, SEGMENTS, generator=generator)
    seen = clips[:, 0] - clips[:, 1] + noise * torch.randn(BATCH, SEGMENTS, generator=generator)
    whole = seen.sum(1).sign()
    advantage = torch.stack([whole, -whole], 1).flatten()
    region = (seen.sign() * whole[:, None]).repeat_interleave(2, 0) if segments else None
    group, count = torch.arange(BATCH).repeat_interleave(2), 2 * BATCH
    asked, condition = [Prompt("a clip")], {"nothing": torch.zeros(2)}
    place, id = torch.zeros(count, dtype=torch.long), torch.arange(count)
    rollout = Rollout(asked * count, group, place, condition, clips.flatten(0, 1), None, id, step, region)
    return Batch(rollout, advantage)


def run(segments: bool, noise: float, seed: int) -> list[tuple[float, float, float]]:
    """Return reward gained, KL, and the share of the frontier, after each number of `PAIRS`."""
    trained, base = oracle(), oracle()
    sampler = Sampler(EulerODE(), steps=10)
    policy, reference = sampler.policy(trained), sampler.policy(base)
    actors = Actors(policy, reference, reference)
    optimizer = torch.optim.SGD(trained.networks["residual"].parameters(), lr=LR)
    total, found = max(PAIRS) // BATCH, []
    for step in range(total):
        batch = compared(step, seed, noise, segments)
        for one in optimizer_steps(DPO_HERE, actors, batch, Context(Rng(("update", seed)), step, total)):
            optimizer.zero_grad()
            for pack in one.packs():
                DPO_HERE.pass_loss(actors, batch, pack)[0].mean().backward()
            optimizer.step()
        if BATCH * (step + 1) in PAIRS:
            found.append(measured(trained, base, sampler))
    return found


def measured(trained: Oracle, base: Oracle, sampler: Sampler) -> tuple[float, float, float]:
    """Return reward gained, KL in nats, and the gain as a share of the most at this KL: exact, in float64."""
    with torch.no_grad():
        q, p = (exact.drawn(exact.steps(doubled(each, sampler))) for each in (trained, base))
        gained, kl = float(q.mean.sum() - p.mean.sum()), float(normal_kl(q, p))
    return gained, kl, gained / math.sqrt(2 * float(p.covariance.sum()) * kl)


def doubled(model: Oracle, sampler: Sampler) -> Denoising:
    """Return the policy over a float64 copy."""
    return Denoising(model.with_networks({k: deepcopy(v).double() for k, v in model.networks.items()}), sampler)


def figures(seeds: int) -> dict[str, object]:
    """Return all that is measured; what is compared is so seed by seed."""
    found: dict[str, object] = {"seeds": seeds, "segments": SEGMENTS}
    for name, noise in NOISE.items():
        runs = {
            kind: torch.tensor([run(kind == "segments", noise, seed) for seed in range(seeds)]).double()
            for kind in ("clips", "segments")
        }
        runs["segments - clips"] = runs["segments"] - runs["clips"]
        found[f"noise: {name}"] = {
            f"{pairs} pairs": {
                kind: dict(zip(("gained", "kl", "of the frontier"), map(interval, each[:, i].T), strict=True))
                for kind, each in runs.items()
            }
            for i, pairs in enumerate(PAIRS)
        }
    return found


def interval(values: Tensor) -> list[float]:
    """Return the mean over seeds, and half the width of its 95 % interval."""
    of = mean_interval(values[:, None])
    return [round(of.value, 3), round((of.high - of.low) / 2, 3)]


def main() -> None:
    """Train, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    text = json.dumps(figures(options.seeds), indent=1) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
