"""Does weighing groups by reliability (BPGO) help under a noisy judge? On an oracle, where what was learned is exact.

    python benchmarks/reliability.py [--seeds 6] [--out docs/results/reliability.json]

Flow-GRPO learns o1, r = a . x, from a judge that adds Gaussian noise: alike for all prompts ("even"), or .3 for half of
them and 4 for the others ("uneven"); it says so (`uncertainty`), for weight signal. The base's own rewards have
standard deviation 1.1. Reported is E[r] gained after 40 iterations of 8 groups of 8 in 5 steps, without noise and
exact, and the KL divergence from the base in nats; mean over seeds and the half width of a 95 % interval (Student's t),
and the difference to plain Flow-GRPO, seed by seed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from limner.bench import exact
from limner.bench.oracles import ENTRIES, config
from limner.build import Assembly, assemble
from limner.core.media import Media
from limner.core.types import Prompt, RewardOutput
from limner.engine.weights import Name
from limner.evaluate.statistics import mean_interval
from limner.learning.reliability import Reliability
from limner.objectives.tilt import Quadratic, normal_kl
from limner.objects import Objects
from limner.policies.denoising import Denoising, Sampler
from limner.report.progress import Progress
from limner.training.loop import Hooks, train
from limner.training.state import State
from limner.worlds.oracle.model import Oracle, Points
from limner.worlds.oracle.world import WORLDS

ROLES: tuple[Name, Name] = ("policy", "reference")
PROMPTS = [f"{kind} {i}" for i in range(4) for kind in ("easy", "hard")]
NOISE = {"even": {"easy": 2.8, "hard": 2.8}, "uneven": {"easy": 0.3, "hard": 4.0}}
"""Standard deviation by the first word of a prompt; both have a root mean square of 2.8."""
VARIANTS = {
    "none": Reliability(),
    "posterior": Reliability(alpha=1.0),
    "posterior, most 3": Reliability(alpha=1.0, least=0.0, most=3.0),
    "published transform": Reliability(transform="published"),
    "invariant transform": Reliability(transform="invariant"),
    "signal": Reliability(alpha=1.0, weight="signal", least=0.0, most=2.0, uncertainty="judge/uncertainty"),
}


def noisy(noise: dict[str, float], seed: int) -> Callable[[Media, Sequence[Prompt]], RewardOutput]:
    """Return o1 with noise, drawn by a hash of the point: equal points get equal noise, others independent ones."""

    def judge(media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        assert isinstance(media, Points)
        points = media.position
        clean = WORLDS["o1"].score(points).double()
        digests = [hashlib.blake2b(p.numpy().tobytes() + bytes([seed]), digest_size=8).digest() for p in points]
        draws = [
            torch.randn((), generator=torch.Generator().manual_seed(int.from_bytes(d, "little") >> 1)) for d in digests
        ]
        std = torch.tensor([noise[prompt.text.split()[0]] for prompt in prompts]).double()
        score = clean + torch.stack(draws).double() * std
        return RewardOutput(score, score.isfinite(), uncertainty=std)

    return judge


def run(noise: str, variant: str, seed: int, iterations: int) -> tuple[float, float]:
    """Return E[r] gained, and KL(policy || base) in nats: exact, of what the sampler draws."""
    entry = replace(ENTRIES["Flow-GRPO"], steps=(iterations, iterations))
    settings = config(entry, "o1", "velocity", seed)
    sampler = Sampler(entry.dynamics, steps=5)
    settings = replace(settings, prompts_per_step=8, group_size=8, sampler=sampler, reliability=VARIANTS[variant])
    given = Objects(noisy(NOISE[noise], seed), [Prompt(text) for text in PROMPTS])
    settings = given.within(settings)
    assembly = assemble(settings, objects=given)
    quiet = Progress("reliability", iterations, quiet=True)
    train(settings, assembly.parts, State(), Hooks(quiet, Forgotten(), lambda state: None, lambda state: {}))
    q, p = (exact.drawn(exact.steps(_double(assembly, role))) for role in ROLES)
    reward = WORLDS["o1"].reward
    assert isinstance(reward, Quadratic)
    exactly = Quadratic(*(part.double() for part in reward))
    with torch.no_grad():
        return float(exactly.mean(q) - exactly.mean(p)), float(normal_kl(q, p))


class Forgotten:
    """A log that keeps nothing."""

    def log(self, step: int, values: Mapping[str, float]) -> None: ...


def _double(assembly: Assembly, role: Name) -> Denoising:
    networks = assembly.parts.weights.roles[role].networks
    assert isinstance(assembly.model, Oracle)
    copies = {name: deepcopy(network).double() for name, network in networks.items()}
    return Denoising(assembly.model.with_networks(copies), assembly.config.sampler)


def figures(seeds: int, iterations: int) -> dict[str, object]:
    """Return all that is measured."""
    found: dict[str, object] = {"seeds": seeds, "iterations": iterations, "groups": "8 of 8"}
    for noise in NOISE:
        runs = {v: torch.tensor([run(noise, v, seed, iterations) for seed in range(seeds)]).double() for v in VARIANTS}
        plain = runs["none"][:, 0]
        found[noise] = {
            name: {
                "gained": _interval(values[:, 0]),
                "kl": _interval(values[:, 1]),
                "gained more than none": _interval(values[:, 0] - plain),
            }
            for name, values in runs.items()
        }
        print(json.dumps({noise: found[noise]}, indent=1), flush=True)
    return found


def _interval(values: Tensor) -> list[float]:
    """Return the mean over seeds, and half the width of its 95 % interval."""
    interval = mean_interval(values[:, None])
    return [round(interval.value, 4), round((interval.high - interval.low) / 2, 4)]


def main() -> None:
    """Train, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    text = json.dumps(figures(options.seeds, options.iterations), indent=1) + "\n"
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
