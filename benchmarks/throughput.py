"""How far rollout and update are from two floors: the passes of the network and the decodes, with nothing around them.

    OMP_NUM_THREADS=1 python benchmarks/throughput.py [--recipe scenes] [--shape flux] [--repeats 5] [--out FILE]
                                                      [--KEY VALUE ...]
    python benchmarks/throughput.py --shape sd35_medium

Every network call of one iteration is recorded (batch size, with or without gradient) and then made again bare, on the
same inputs, in turn with real iterations in the same process: by the network as it is trained (`floor`), and by a plain
one (`plain`), low-rank updates added into its weights, of which those layers have gradients. Prints medians, as JSON:
seconds of the processor, so that a machine with other work says the same, or of the clock on an accelerator; and
`inside`, the share of rollout and update that the calls take by themselves, without the decodes. With a `--shape` the
model is one of that architecture, narrow, with random weights, but wide enough that products are most of its work, and
an iteration is small: some minutes on one core.

`--shape sd35_medium` is Stable Diffusion 3.5 medium as large as it is published, with random weights, trained by the
recipe of that name, of which an iteration is small, on a card: images a second, and the peak of memory beside the one
that `limner plan` predicts of that very run. Nothing is recorded there, and no floor measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers import ConfigMixin
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from limner.build import assemble
from limner.commands.parser import take_keys
from limner.core.errors import UserError
from limner.core.protocols import Context, ModelSettings
from limner.core.rng import Rng
from limner.core.types import Batch, Rollout
from limner.engine.device import resolve
from limner.engine.lora import ADAPTERS
from limner.engine.memory import peak_memory_mib
from limner.engine.precision import Precision
from limner.engine.weights import Role, Weights
from limner.machine.blueprint import blueprint
from limner.machine.plan import plan
from limner.models.flux import build as flux
from limner.models.flux.settings import FluxSettings
from limner.models.lora import merged
from limner.models.parts import NETWORKS
from limner.models.sd import build as sd
from limner.models.sd.settings import SDSettings
from limner.models.sd3 import build as sd3
from limner.models.sd3.settings import SD3Settings
from limner.objects import Objects
from limner.recipes.named import recipe
from limner.recipes.override import override
from limner.rollout.collect import collect
from limner.rollout.score import render
from limner.training.config import Lora, Model, RunConfig
from limner.training.loop import Parts, update

Call = tuple[nn.Module, tuple[Any, ...], dict[str, Any], bool]
Networks = Mapping[int, nn.Module]


@dataclass(frozen=True)
class Shape:
    """A kind's miniature, what is wider of its network, and what is chosen about it."""

    kind: str
    miniature: Callable[[], Any]
    wider: Mapping[str, Any]
    settings: ModelSettings

    def model(self, folder: Path) -> Model:
        """Return such a model, written to a folder."""
        pipeline = self.miniature()
        part = next(name for name in NETWORKS if name in pipeline.components)
        small = pipeline.components[part]
        pipeline.register_modules(**{part: type(small).from_config({**small.config, **self.wider})})
        pipeline.save_pretrained(folder)
        return Model(self.kind, str(folder), self.settings, Lora())


SHAPES: Mapping[str, Shape] = {
    "sd3": Shape(
        "sd3",
        sd3.tiny_pipeline,
        {"num_layers": 6, "attention_head_dim": 64, "num_attention_heads": 6, "caption_projection_dim": 384},
        SD3Settings(max_sequence_length=16),
    ),
    "sdxl": Shape(
        "sd",
        partial(sd.tiny_pipeline, "sdxl"),
        {"block_out_channels": (96, 192), "norm_num_groups": 32, "attention_head_dim": (2, 4), "layers_per_block": 2},
        SDSettings(resolution=128),
    ),
    "flux": Shape(
        "flux",
        flux.tiny_pipeline,
        {
            "num_layers": 2,
            "num_single_layers": 4,
            "attention_head_dim": 64,
            "num_attention_heads": 6,
            "axes_dims_rope": (8, 28, 28),
        },
        FluxSettings(resolution=128, max_sequence_length=16),
    ),
}
"""Of Stable Diffusion 3 and XL and of FLUX.1."""
SMALL = {"prompts_per_step": "2", "group_size": "4", "micro_batch": "8", "sampler.steps": "4"}
"""An iteration of a shape, unless a key says otherwise."""
FULL = {"sd35_medium": "stabilityai/stable-diffusion-3.5-medium"}
"""Shapes as large as they are published, by recipe, and whose facts they are made of."""
SMALL_OF_FULL = {
    "prompts_per_step": "2",
    "group_size": "8",
    "micro_batch": "8",
    "algorithm.num_updates": "1",
    "reward": "jpeg_size",
    "evaluation.prompts": "",
}
"""An iteration of theirs, unless a key says otherwise; nobody judges."""
REPEATS, REPEATS_OF_SHAPE = 5, 3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="scenes")
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--shape", choices=[*SHAPES, *FULL])
    parser.add_argument("--out")
    rest, values = take_keys(sys.argv[1:], frozenset({"--recipe", "--shape", "--repeats", "--out", "--help"}))
    options = parser.parse_args(rest)
    repeats = options.repeats or (REPEATS_OF_SHAPE if options.shape else REPEATS)
    try:
        found = measured(options.shape, options.recipe, values, repeats)
    except UserError as error:
        raise SystemExit(f"throughput: {error}") from error
    told = json.dumps({"command": " ".join(["python", *sys.argv]), **found}, indent=2)
    print(told)
    if options.out:
        Path(options.out).write_text(told + "\n", encoding="utf-8")


def measured(shape: str | None, name: str, values: Mapping[str, Any], repeats: int) -> dict[str, Any]:
    """Return what is found of a shape, or of a recipe's own model."""
    if shape in FULL:
        return measure_full(override(override(recipe(shape), SMALL_OF_FULL), values), FULL[shape], repeats)
    with TemporaryDirectory() as folder:
        base = recipe(name)
        if shape is not None:
            base = override(replace(base, model=SHAPES[shape].model(Path(folder))), SMALL)
        return measure(override(base, values), repeats)


def full(hub: str, device: torch.device) -> Any:
    """Return the pipeline of a published checkpoint as its facts have it, with random weights in bfloat16."""
    pipeline, _, _ = blueprint(hub)
    for name, part in pipeline.components.items():
        if isinstance(part, nn.Module):
            with device:
                made = type(part).from_config(part.config) if isinstance(part, ConfigMixin) else type(part)(part.config)
            pipeline.register_modules(**{name: made.to(torch.bfloat16).eval()})
    return pipeline


def measure_full(config: RunConfig, hub: str, repeats: int) -> dict[str, Any]:
    """Return what iterations of a run take whose model is as large as published. Raises UserError without a card."""
    if resolve(config.device).type != "cuda":
        raise UserError(f"a model as large as {hub} is measured on a card (cuda), and here is none: take --shape sd3")
    predicted = plan(config).peak
    objects = Objects(model=full(hub, torch.device("cpu")))
    config = objects.within(config)
    parts = assemble(config, objects=objects).parts
    learn(config, parts, roll(config, parts, 0))  # warms up
    torch.cuda.reset_peak_memory_stats()
    seconds: dict[str, list[float]] = {"rollout": [], "update": []}
    for step in range(repeats):
        start = time.perf_counter()
        rollout = roll(config, parts, step)
        parts.team.synchronize()
        drawn = time.perf_counter()
        learn(config, parts, rollout)
        parts.team.synchronize()
        seconds["rollout"].append(drawn - start)
        seconds["update"].append(time.perf_counter() - drawn)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    medians["both"] = sum(medians.values())
    samples = config.prompts_per_step * config.group_size
    return {
        "model": hub,
        "card": torch.cuda.get_device_name(),
        "samples": samples,
        "micro_batch": config.micro_batch,
        "repeats": repeats,
        "seconds": {name: round(value, 3) for name, value in medians.items()},
        "images_per_second": {name: round(samples / value, 3) for name, value in medians.items()},
        "peak_memory_mib": round(torch.cuda.max_memory_allocated() / 2**20),
        "planned": {"peak_memory_mib": round(predicted.peak / 2**20), "phase": predicted.name},
    }


def measure(config: RunConfig, repeats: int) -> dict[str, Any]:
    """Return what one iteration takes, and its floors."""
    parts = assemble(config).parts
    networks = list({id(n): n for role in parts.weights.roles.values() for n in role.networks.values()}.values())
    floor: Networks = {}
    plain = {known_by(network): plain_of(network, config) for network in networks}
    calls = record(networks)

    rollout = roll(config, parts, 0)
    rolled = list(calls)
    calls.clear()
    learn(config, parts, rollout)
    learned = list(calls)

    def sampled(networks: Networks) -> None:
        replay(rolled, networks)
        render(rollout.sample, parts.studio.decode, config.micro_batch)

    jobs: dict[str, Callable[[], object]] = {
        "rollout": lambda: roll(config, parts, 1),
        "rollout_inside": lambda: replay(rolled, floor),
        "rollout_floor": lambda: sampled(floor),
        "rollout_plain": lambda: sampled(plain),
        "update": lambda: learn(config, parts, rollout),
        "update_floor": lambda: replay(learned, floor),
        "update_plain": lambda: replay(learned, plain),
    }
    now = time.process_time if parts.team.device.type == "cpu" else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            calls.clear()
            start = now()
            job()
            parts.team.synchronize()
            seconds[name].append(now() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    samples = len(rollout)

    def ratio(to: str) -> dict[str, float]:
        spent, least = ([medians[f"{job}{end}"] for job in ("rollout", "update")] for end in ("", to))
        names = ("rollout", "update", "both")
        return {
            name: round(one / two, 3)
            for name, one, two in zip(names, [*spent, sum(spent)], [*least, sum(least)], strict=True)
        }

    return {
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "recipe": config.name,
        "model": type(networks[0]).__name__,
        "algorithm": type(config.algorithm).__name__,
        "samples": samples,
        "micro_batch": config.micro_batch,
        "threads": torch.get_num_threads(),
        "repeats": repeats,
        "evaluations": {"rollout": count(rolled), "update": count(learned)},
        "seconds": {name: round(value, 4) for name, value in medians.items()},
        "samples_per_second": {name: round(samples / medians[name], 1) for name in ("rollout", "update")},
        "peak_memory_mib": round(peak_memory_mib(parts.team.device)),
        "inside": {
            "rollout": round(medians["rollout_inside"] / medians["rollout"], 3),
            "update": round(medians["update_floor"] / medians["update"], 3),
        },
        "to_floor": ratio("_floor"),
        "to_plain": ratio("_plain"),
    }


def known_by(network: nn.Module) -> int:
    """Return what a network and its views under the weights of a role have in common."""
    return id(next(network.parameters()))


def plain_of(network: nn.Module, config: RunConfig) -> nn.Module:
    """Return a copy without low-rank layers: what they add is in the weights, which have gradients."""
    plain = merged(network, ADAPTERS["policy"])
    for name, module in network.named_modules():
        if isinstance(module, LoraLayer):
            plain.get_submodule(name).weight.requires_grad_(True)
    weights = Weights({}, {}, {"policy": Role({"plain": plain}, nullcontext())}, nullcontext)
    return weights.networks("policy", Precision(config.precision.dtype))["plain"]


def record(networks: Iterable[nn.Module]) -> list[Call]:
    """Return a list that grows by each call of a network: which, with what, and whether gradients were on."""
    calls: list[Call] = []

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append((module, args, kwargs, torch.is_grad_enabled()))

    for network in networks:
        network.register_forward_pre_hook(hook, with_kwargs=True)
    return calls


def replay(calls: list[Call], instead: Networks) -> None:
    """Make the recorded calls again, by the networks `instead` if there are any; backward where gradients were on."""
    used = set()
    for network, args, kwargs, grad in list(calls):
        network = instead.get(known_by(network), network)
        used.add(network)
        with torch.set_grad_enabled(grad):
            (output,) = network.forward(*args, **kwargs)
            if grad:
                output.backward(torch.ones_like(output))
    for network in used:
        network.zero_grad()


def count(calls: list[Call]) -> int:
    """Return the number of samples that went through the networks."""
    return sum(
        next(each.shape[0] for each in (*args, *kwargs.values()) if isinstance(each, Tensor))
        for _, args, kwargs, _ in calls
    )


def roll(config: RunConfig, parts: Parts, step: int) -> Rollout:
    """Draw and decode one iteration's samples."""
    studio = parts.studio
    rollout = collect(
        studio.policy,
        studio.cache,
        [studio.prompts[i] for i in studio.sampler.indices(step).tolist()],
        config.group_size,
        rng=Rng(("throughput", step)),
        step=step,
        record=studio.record,
        micro_batch=config.micro_batch,
    )
    render(rollout.sample, studio.decode, config.micro_batch)
    return rollout


def learn(config: RunConfig, parts: Parts, rollout: Rollout) -> None:
    """Take one iteration's optimizer steps, as if every other sample were good."""
    advantage = torch.ones(len(rollout))
    advantage[::2] = -1
    update(parts, Batch(rollout, advantage), Context(Rng(("throughput",)), 0, config.micro_batch))


if __name__ == "__main__":
    main()
