"""How far rollout and update are from the floor: the same network passes and decodes, with nothing around them.

    python benchmarks/throughput.py [--recipe scenes] [--repeats 5] [--algorithm DiffusionNFT] [--KEY VALUE ...]

Every network call of one iteration is recorded (batch size, with or without gradient) and then made again bare, on
the same inputs, in turn with real iterations in the same process. Prints medians, as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from limner.build import assemble
from limner.cli import take_keys
from limner.core.protocols import Context
from limner.core.rng import Rng
from limner.core.types import Batch, Rollout
from limner.engine.memory import peak_memory_mib
from limner.recipes.named import recipe
from limner.recipes.override import override
from limner.rollout.collect import collect
from limner.rollout.score import render
from limner.training.config import RunConfig
from limner.training.loop import Parts, update

Call = tuple[nn.Module, dict[str, Any], bool]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="scenes")
    parser.add_argument("--repeats", type=int, default=5)
    rest, values = take_keys(sys.argv[1:], frozenset({"--recipe", "--repeats", "--help"}))
    options = parser.parse_args(rest)
    config = override(recipe(options.recipe), values)
    assembly = assemble(config)
    parts = assembly.parts
    roles = parts.weights.roles.values()
    calls = record({id(network): network for role in roles for network in role.networks.values()}.values())

    rollout = roll(config, parts, 0)
    rolled = list(calls)
    calls.clear()
    learn(config, parts, rollout)
    learned = list(calls)
    jobs: dict[str, Callable[[], object]] = {
        "rollout": lambda: roll(config, parts, 1),
        "rollout_floor": lambda: (replay(rolled), render(rollout.sample, parts.decode, config.micro_batch)),
        "update": lambda: learn(config, parts, rollout),
        "update_floor": lambda: replay(learned),
    }
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(options.repeats):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            parts.executor.synchronize()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    samples = len(rollout)
    print(json.dumps({
        "recipe": config.name,
        "algorithm": type(config.algorithm).__name__,
        "samples": samples,
        "micro_batch": config.micro_batch,
        "threads": torch.get_num_threads(),
        "evaluations": {"rollout": count(rolled), "update": count(learned)},
        "seconds": {name: round(value, 4) for name, value in medians.items()},
        "samples_per_second": {name: round(samples / medians[name], 1) for name in ("rollout", "update")},
        "peak_memory_mib": round(peak_memory_mib(parts.executor.device)),
        "ratio": {
            "rollout": round(medians["rollout"] / medians["rollout_floor"], 3),
            "update": round(medians["update"] / medians["update_floor"], 3),
            "both": round(
                (medians["rollout"] + medians["update"]) / (medians["rollout_floor"] + medians["update_floor"]), 3
            ),
        },
    }, indent=2))  # fmt: skip


def record(networks: Iterable[nn.Module]) -> list[Call]:
    """Return a list that grows by each call of a network: which, with what, and whether gradients were on."""
    calls: list[Call] = []

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append((module, kwargs, torch.is_grad_enabled()))

    for network in networks:
        network.register_forward_pre_hook(hook, with_kwargs=True)
    return calls


def replay(calls: list[Call]) -> None:
    """Make the recorded calls again; backward where gradients were on."""
    for network, kwargs, grad in list(calls):
        with torch.set_grad_enabled(grad):
            (output,) = network.forward(**kwargs)
            if grad:
                output.backward(torch.ones_like(output))
    for network in {network for network, _, grad in calls if grad}:
        network.zero_grad()


def count(calls: list[Call]) -> int:
    """Return the number of samples that went through the networks."""
    return sum(next(v.shape[0] for v in kwargs.values() if isinstance(v, Tensor)) for _, kwargs, _ in calls)


def roll(config: RunConfig, parts: Parts, step: int) -> Rollout:
    """Draw and decode one iteration's samples."""
    prompts = [parts.prompts[i] for i in parts.sampler.indices(step).tolist()]
    rollout = collect(
        parts.behaviour,
        parts.cache,
        prompts,
        config.group_size,
        rng=Rng(("throughput", step)),
        step=step,
        record=parts.algorithm.needs.path,
        micro_batch=config.micro_batch,
    )
    render(rollout.sample, parts.decode, config.micro_batch)
    return rollout


def learn(config: RunConfig, parts: Parts, rollout: Rollout) -> None:
    """Take one iteration's optimizer steps, as if every other sample were good."""
    advantage = torch.ones(len(rollout))
    advantage[::2] = -1
    update(parts, Batch(rollout, advantage), Context(Rng(("throughput",)), 0, config.micro_batch))


if __name__ == "__main__":
    main()
