"""Measure how much of a policy gradient is signal, before any training.

    python benchmarks/gradient_noise.py RECIPE [--prompts 16] [--group 48] [--out FILE.json] [--sampler.top_p 0.9 ...]

Of train prompts x a group of samples each, judged as the recipe judges, it takes the gradient of E[A log p] over all
that was decided, A the advantage within the group, for eight parts of every group. The mean of g_i . g_j over pairs of
parts estimates |signal|^2 (without bias but for the group's mean, which parts share), the rest of |g_i|^2 is noise:

    signal     |E g|                          noise      the root of tr Cov of one sample's gradient
    samples    (noise / signal)^2, of which as many make the noise of their mean as large as the signal
    forced     the share of decisions among tokens of which but one was left to be drawn

The error of |signal|^2 is the standard error of that mean: pairs of independent noise are uncorrelated.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import combinations
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from limner.build import Assembly, assemble
from limner.commands.parser import take_keys
from limner.core.protocols import DecisionProcess
from limner.core.rng import Rng
from limner.core.types import Rollout
from limner.judges import compose
from limner.objectives.advantage import group_advantage
from limner.objectives.categorical import Categorical
from limner.recipes.named import recipe
from limner.recipes.override import override
from limner.report.file import write_text
from limner.rollout.collect import collect
from limner.worlds.scenes.grammar import prompts

PARTS = 8


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--group", type=int, default=48)
    parser.add_argument("--out", type=Path)
    rest, values = take_keys(sys.argv[1:], frozenset({"--prompts", "--group", "--out", "--help"}))
    options = parser.parse_args(rest)
    assembly = assemble(override(recipe(options.recipe), values))
    found = measured(assembly, options.prompts, options.group)
    text = json.dumps({"recipe": options.recipe, "prompts": options.prompts, "group": options.group, **found}, indent=1)
    print(text)
    if options.out:
        write_text(options.out, text + "\n")


def measured(assembly: Assembly, count: int, group: int) -> dict[str, float]:
    """Return signal and noise of the gradient, and what samples were like."""
    studio, policy = assembly.parts.studio, assembly.policy("policy")
    asked = prompts("train", 28)[:: max(1, 112 // count)][:count]
    size = assembly.config.micro_batch
    rollout = collect(policy, studio.cache, asked, group, rng=Rng((1,)), step=0, record=True, micro_batch=size)
    media = assembly.model.decode(rollout.sample)
    judge, who = compose(assembly.config.reward).plain, [rollout.prompts[i] for i in rollout.prompt_index.tolist()]
    score = judge(media, who).score.double()
    every = torch.ones(len(score), dtype=torch.bool)
    advantage = group_advantage(score, rollout.group, every, "group", 0, 1e-4, 0.0).float()
    parts = [torch.arange(i, len(score), PARTS) for i in range(PARTS)]
    gradients = [gradient(assembly, rollout, advantage, rows) for rows in parts]
    dots = torch.stack([a @ b for a, b in combinations(gradients, 2)])
    square = torch.stack([g @ g for g in gradients]).mean()
    noise = float(((square - dots.mean()).clamp(min=0) * len(parts[0])).sqrt())
    signal = float(dots.mean().clamp(min=0).sqrt())
    found = {
        "reward": float(score.mean()),
        "spread within groups": float(score.view(count, group).std(1).mean()),
        "signal": signal,
        "signal squared": float(dots.mean()),
        "its error": float(dots.std() / len(dots) ** 0.5),
        "noise": noise,
        "samples": (noise / signal) ** 2 if signal else float("inf"),
    }
    if isinstance(old := rollout.path.old, Categorical):
        found["entropy"] = float(old.entropy().mean())
        found["forced"] = float(((old.logits > -torch.inf).sum(-1) == 1).float().mean())
    return found


def gradient(assembly: Assembly, rollout: Rollout, advantage: Tensor, rows: Tensor) -> Tensor:
    """Return the gradient of the mean over samples `rows` of A log p, over all weights that learn."""
    policy = cast(DecisionProcess, assembly.policy("policy"))
    weights = list(assembly.parts.weights.parameters().values())
    total = [torch.zeros_like(weight) for weight in weights]
    for pack in policy.pack(rollout, rows, assembly.config.micro_batch):
        ratio = policy.distribution(pack, rollout.condition).log_ratio(pack.old, pack.choice)  # has log p's gradient
        praised = (ratio * advantage[pack.row]).sum() / len(rows)
        for sum_, part in zip(total, torch.autograd.grad(praised, weights, allow_unused=True), strict=True):
            if part is not None:
                sum_ += part
    return torch.cat([each.flatten() for each in total])


if __name__ == "__main__":
    main()
