"""What there is, with a line about each: what `limner list` prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from limner.judging.spec import Declared
from limner.recipes.presets import PRESETS
from limner.registry.find import find
from limner.registry.names import BASES, PROMPTS, REGISTRIES


def catalogue() -> dict[str, dict[str, str]]:
    """Return for each kind names and the first line of their documentation."""
    found = {
        kind: {name: _first_line(find(registry, kind, name)) for name in registry}
        for kind, registry in REGISTRIES.items()
    }
    found["presets"] = {name: each.about for name, each in PRESETS.items()}
    found["prompts"] = {name: _told(find(PROMPTS, "prompt set", name)) for name in PROMPTS}
    found["bases"] = {name: f"a {_pipeline(find(BASES, 'base', name))} that ships with limner" for name in BASES}
    return found


def _first_line(thing: Any) -> str:
    """Return what a thing is; an algorithm's file says it better than its class, which is its hyper-parameters."""
    if isinstance(thing, Declared):
        return thing.spec.about
    about = sys.modules[thing.__module__] if thing.__module__.startswith("limner.algorithms.") else thing
    return (about.__doc__ or "").strip().splitlines()[0]


def _told(prompts: Any) -> str:
    """Return how many prompts a set's two splits, NAME:train and NAME:heldout, have, and one of them."""
    train, heldout = prompts("train"), prompts("heldout")
    return f'{len(train):,} to train on, {len(heldout)} held out, such as "{heldout[0].text}"'


def _pipeline(folder: Path) -> str:
    """Return the name of diffusers' class that a folder is of."""
    name: str = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))["_class_name"]
    return name
