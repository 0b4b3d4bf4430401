"""Python objects that a run is given where its configuration has text: a function, a list of prompts, a pipeline.

The configuration then says what stood there, `object:my_reward (1a2b3c4d)`, with a digest of it. Who goes on with the
run gives the same objects again; others are another configuration.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, is_dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from limner.core.errors import UserError, shown
from limner.core.media import Media
from limner.core.types import Pipeline, Prompt, RewardOutput
from limner.recipes.named import recipe
from limner.registry.find import find
from limner.registry.names import MODELS
from limner.registry.served import kind_of_class
from limner.training.config import Model, RunConfig

MARK = "object:"
SAMPLED = 64
"""Numbers of each tensor that the digest of a pipeline reads."""
MOST_SAMPLES = 10_000
"""Of a prompt, drawn at once and kept."""


Prompts: TypeAlias = Sequence[str | Prompt]
RewardFunction: TypeAlias = Callable[[Media, Sequence[Prompt]], Tensor | np.ndarray | Sequence[float] | RewardOutput]
"""What a user writes: any row of numbers will do, one a sample."""


@dataclass(frozen=True)
class Objects:
    """What a caller gives beside a configuration: objects, or texts that name them; None: as the configuration says.

    `heldout` and `heldout_reward` are what the result is measured on, and by.
    """

    reward: RewardFunction | str | None = None
    prompts: Prompts | str | None = None
    heldout: Prompts | str | None = None
    heldout_reward: RewardFunction | str | None = None
    model: Pipeline | str | Path | None = None

    def __post_init__(self) -> None:
        for argument in ("prompts", "heldout"):
            if (given := vars(self)[argument]) is not None:
                listed = str(given) if isinstance(given, str | Path) else _prompts(given, argument)
                object.__setattr__(self, argument, listed)

    def within(self, config: RunConfig | str | Path) -> RunConfig:
        """Return the configuration, or that of a recipe, with what is given named in it.

        Another reward measures the result too. Raises UserError for what cannot stand there.
        """
        if isinstance(config, str | Path):
            config = recipe(str(config))
        if not isinstance(config, RunConfig):
            raise UserError(f"config is a {type(config).__name__}; give a limner.RunConfig, or a recipe's name or file")
        changes: dict[str, Any] = {}
        evaluation = config.evaluation
        if self.reward is not None:
            changes["reward"] = _named(self.reward, "reward")
            evaluation = replace(evaluation, reward="")
        if self.heldout_reward is not None:
            evaluation = replace(evaluation, reward=_named(self.heldout_reward, "heldout_reward"))
        if self.heldout is not None:
            evaluation = replace(evaluation, prompts=_listed(self.heldout, "heldout"))
        if self.prompts is not None:
            changes["prompts"] = _listed(self.prompts, "prompts")
        if self.model is not None:
            changes["model"] = _chosen(config.model, self.model)
        return replace(config, evaluation=evaluation, **changes)

    def require(self, config: RunConfig, training: bool) -> None:
        """Raise UserError if the configuration names an object that is not given here.

        Without `training` only the model is needed.
        """
        named = {"model": config.model.path}
        if config.rollouts.by.workers and is_object(config.model.path):
            raise UserError(
                "rollouts.by.workers load the model for themselves, and a pipeline in memory is only here: save it, "
                "and name its folder"
            )
        if training:
            named |= {"reward": config.reward, "prompts": config.prompts}
            named |= {"heldout": config.evaluation.prompts, "heldout_reward": config.evaluation.reward}
        missing = {key: text for key, text in named.items() if is_object(text) and not is_given(vars(self)[key])}
        if missing:
            told = " and ".join(f"{key} ({text})" for key, text in missing.items())
            arguments = ", ".join(f"{key}=..." for key in missing)
            how = f"train(config, {arguments}, resume=True)" if training else f"open_run(folder, {arguments})"
            raise UserError(f"its {told} was given in Python, and no file keeps it: give it again, limner.{how}")


NOTHING = Objects()


def is_object(text: str) -> bool:
    """Tell whether a configuration's text stands for an object."""
    return text.startswith(MARK)


def is_given(thing: Any) -> bool:
    """Tell whether what a caller gave is an object, and no text that names one."""
    return thing is not None and not isinstance(thing, str | Path)


def name_of_object(text: str) -> str:
    """Return what the object was called."""
    return text.removeprefix(MARK).partition(" ")[0]


def origin(model: Any) -> str:
    """Return the folder or hub id that a pipeline says it was loaded from; "": it says nothing."""
    from diffusers import DiffusionPipeline

    return str(model.config.get("_name_or_path") or "") if isinstance(model, DiffusionPipeline) else ""


def prompt_of(given: str | Prompt, argument: str = "prompt") -> Prompt:
    """Return a text or a prompt as a prompt. Raises UserError for what is none, or says nothing."""
    if not isinstance(given, str | Prompt):
        raise UserError(f"{argument} holds a {type(given).__name__}; give texts, or limner.Prompt(text, meta)")
    prompt = Prompt(given) if isinstance(given, str) else given
    text = prompt.text
    if not isinstance(text, str) or not text.strip() or any("\ud800" <= c <= "\udfff" for c in text):
        raise UserError(f"{argument}: a text in UTF-8 that is not empty is needed, got {shown(text)}")
    if not isinstance(prompt.meta, Mapping) or not isinstance(prompt.inputs, Mapping):
        raise UserError(f"{argument} {shown(text)}: meta and inputs are dicts")
    return prompt


def seeds_of(count: int, seed: int) -> range:
    """Return so many seeds, from the first one on. Raises UserError for numbers that cannot be meant."""
    if not all(isinstance(each, Integral) for each in (count, seed)) or not 1 <= count <= MOST_SAMPLES:
        most = f"whole numbers, and count from 1 to {MOST_SAMPLES}"
        raise UserError(f"count and seed are {most}, got {shown(count)} and {shown(seed)}")
    return range(int(seed), int(seed) + int(count))


def _prompts(given: Iterable[str | Prompt], argument: str) -> list[Prompt]:
    """Return what a caller gives as a list of prompts, once read."""
    if not isinstance(given, Iterable) or isinstance(given, Set | Mapping | bytes):  # a set has another order each time
        raise UserError(f"{argument} is a {type(given).__name__}; give a list of texts, or the name of a file")
    if not (listed := [prompt_of(each, argument) for each in given]):
        raise UserError(f"{argument} is an empty list; give at least one prompt")
    return listed


def _named(reward: RewardFunction | str, argument: str) -> str:
    """Return what a configuration calls a reward."""
    if isinstance(reward, str):
        return reward
    if not callable(reward):
        raise UserError(f"{argument} is a {type(reward).__name__}; give a function of (media, prompts), or text")
    code = reward if inspect.isroutine(reward) else type(reward)
    name = re.sub(r"\W+", "_", code.__name__).strip("_") or "reward"
    try:
        source = inspect.getsource(code) + (repr(reward) if is_dataclass(reward) else "")
    except (OSError, TypeError):  # written where Python keeps no source
        return f"{MARK}{name}"
    return f"{MARK}{name} ({_digest(source.encode())})"


def _listed(prompts: Prompts | str, argument: str) -> str:
    """Return what a configuration calls a list of prompts."""
    if isinstance(prompts, str):
        return prompts
    told = [[each.text, dict(each.meta)] for each in map(prompt_of, prompts)]
    return f"{MARK}{argument} ({_digest(json.dumps(told, sort_keys=True, default=repr).encode())})"


def _chosen(model: Model, given: Pipeline | str | Path) -> Model:
    """Return `model` with another generator; what was chosen about the old one stays where it fits the new one."""
    if isinstance(given, str | Path):
        return replace(model, path=str(given))
    if not isinstance(given, Pipeline):
        raise UserError(f"model is a {type(given).__name__}; give a pipeline of diffusers, a folder, or a base's name")
    name = type(given).__name__
    kind = model.kind or kind_of_class(name, name)
    fits = kind not in MODELS or isinstance(model.settings, find(MODELS, "model kind", kind))
    path = f"{MARK}{name} ({_digest(*_weights(given))})"
    return replace(model, kind=kind, path=path, settings=model.settings if fits else None)


def _weights(pipeline: Pipeline) -> Iterable[bytes]:
    """Yield names, and some numbers of each tensor: the same in whatever precision they were loaded."""
    for part, network in sorted(pipeline.components.items()):
        if isinstance(network, torch.nn.Module):
            for name, tensor in network.state_dict().items():
                numbers = tensor.detach().flatten()
                yield f"{part}.{name} {tuple(tensor.shape)}".encode()
                yield numbers[:: max(1, len(numbers) // SAMPLED)].float().cpu().numpy().tobytes()


def _digest(*parts: bytes) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    return whole.hexdigest()[:8]
