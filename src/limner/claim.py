"""Whose a run folder is: one process writes it, for one configuration, on the inputs that it began with."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from limner.cluster.place import Place
from limner.core.errors import UserError
from limner.core.paths import SUFFIXES, path_of, to_folder
from limner.core.types import Prompt
from limner.engine import checkpoint
from limner.objects import is_object
from limner.recipes.yaml import changed_keys, code_of, written_config
from limner.registry.file import with_imports
from limner.registry.names import REWARDS, WORLDS
from limner.report.manifest import read_manifest
from limner.report.metrics import FILE, read
from limner.rewards.algebra.against import Against
from limner.rewards.algebra.parse import parse
from limner.rewards.algebra.tree import Expression, leaves, walk
from limner.training.config import RunConfig
from limner.training.source import Pictures, Preferences

CONFIG, LOCK, CHECKPOINTS = "config.yaml", ".lock", "checkpoints"
UNFINISHED = {f".{CONFIG}.part", LOCK}
"""All that a run leaves that was killed at its very start."""
TABLES = (".jsonl", ".csv", ".parquet", ".txt")
FREE = (
    "steps", "micro_batch", "checkpoint_every", "max_hours", "overlap", "reward_cache", "prompt_cache", "ratio_floor",
    "device", "shard", "context", "out", "model.offload", "model.decode_batch",
    "optimizer.lr", "optimizer.warmup", "optimizer.schedule", "optimizer.max_grad_norm",
    "evaluation.every", "evaluation.part", "snapshots.every", "snapshots.prompts", "snapshots.seeds",
    "sampler.keep", "precision.activation_checkpointing", "precision.compile",
    *(f"rollouts.by.{field.name}" for field in fields(Place)),
)  # fmt: skip
"""The keys that a run may be resumed with other values of: what was learned and measured with the old ones stands."""


def folder_of(config: RunConfig) -> Path:
    """Return the folder of a run."""
    return to_folder(config.out or f"runs/{config.name}-{config.seed}", "out")


def make(folder: Path) -> None:
    """Make a run folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}); choose another with --out") from error


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep every other process from writing the folder. The lock ends with its process, however that ends."""
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise UserError(
            f"another process is writing {folder}: wait until it ends, or choose another folder with --out"
        ) from error
    try:
        yield
    finally:
        lock.release()


def require_unheld(folder: Path) -> None:
    """Refuse a run that another process writes: better known before the dry run than after."""
    if begun(folder):
        with held(folder):
            pass


def require_usable(folder: Path, config: RunConfig, resume: bool) -> dict[str, str]:
    """Refuse to write over another run, or to resume one under another configuration; return the keys that changed.

    A run that failed before its first iteration stands in nobody's way.
    """
    written = folder / CONFIG
    if not written.exists():
        there = {entry.name for entry in os.scandir(folder)} if folder.is_dir() else {folder.name}
        if os.path.lexists(folder) and there - UNFINISHED:
            raise UserError(f"{folder} exists and is no run folder; choose another with --out")
        return {}
    if not begun(folder):
        return changed_keys(config, written)
    if not resume:
        raise UserError(f"{folder} holds a run already: continue it with --resume, or choose another folder with --out")
    changes = changed_keys(config, written)
    if other := [change for key, change in changes.items() if key not in FREE]:
        told = ", ".join(other[:3]) + (f" and {len(other) - 3} more" if len(other) > 3 else "")
        raise UserError(
            f"{folder} holds a run of another configuration; resume it with: limner train {written} --resume "
            f"(changed: {told})"
        )
    return changes


def obstacles(folder: Path, config: RunConfig) -> list[str]:
    """Return why a new run would not begin in the folder, if it would not."""
    try:
        require_usable(folder, config, resume=False)
    except UserError as error:
        return [f"a run would not begin: {error}"]
    return []


def settle(folder: Path, config: RunConfig, content: Mapping[str, Any], resume: bool, accept: bool) -> list[str]:
    """Refuse a folder that was begun with other inputs than now, by name, unless changes are accepted.

    `content` is what the manifest is to say. Returns what has changed since the run was begun, in all its sessions.
    What was measured before the first iteration is forgotten where it was with other inputs.
    """
    keys = require_usable(folder, config, resume)
    before = read_manifest(folder)
    changed = changed_inputs(before or {}, content)
    if not begun(folder):
        if changed or keys:
            clear(folder)
        return []
    if changed and not accept:
        raise UserError(
            f"{folder} was begun with other inputs: {', '.join(changed)} changed since; put them back, or go on "
            "knowingly with --accept-changes"
        )
    if changed:
        clear(folder)
    told = [f"resumed with {change}" for change in keys.values()] + [f"resumed with other {name}" for name in changed]
    if before is None:
        told.append("manifest.json was missing: whether prompts, rewards and base are as they were cannot be told")
    return [*(before or {}).get("changes", []), *told]


def resumed(folder: Path, iteration: int) -> str:
    """Return where a run goes on that was to be resumed."""
    return (
        f"resuming at iteration {iteration}"
        if iteration
        else f"nothing to resume in {folder}: it begins at iteration 0"
    )


def clear(folder: Path) -> None:
    """Remove what was measured before the first iteration."""
    for place in (folder / "samples").glob("before-*"):
        shutil.rmtree(place)


def require_whole(folder: Path, iteration: int, config: RunConfig) -> list[str]:
    """Refuse to go on from `iteration` where more was done and the checkpoint of it is gone; return what is missing."""
    place, lines = folder / CHECKPOINTS, read(folder)
    damaged = [path.name for path in checkpoint.damaged(place)]
    if not iteration and (damaged or _had_checkpoint(folder, len(lines), config)):
        found = f"{', '.join(damaged)} is damaged" if damaged else "it holds none"
        raise UserError(
            f"{place} has no whole checkpoint ({found}), but {len(lines)} iterations were done: put one back from a "
            "copy, or begin anew in another folder with --out"
        )
    told = [f"checkpoint {name} is damaged, and passed over" for name in damaged]
    missing = sorted(set(range(iteration)) - {line["step"] for line in lines})
    if missing:
        told.append(f"{folder / FILE} lacks {len(missing)} iterations that were done, {missing[0]} the first of them")
    if iteration > config.steps:
        raise UserError(f"{folder} has done {iteration} iterations already, and steps is {config.steps}")
    return told


def _had_checkpoint(folder: Path, lines: int, config: RunConfig) -> bool:
    """Tell whether so many lines are not logged without a checkpoint: it is written after the line of its iteration."""
    if not lines:
        return False
    every = written_config(folder / CONFIG, code_of(config)).checkpoint_every
    return lines > every or (folder / "summary.json").exists()


def inputs(config: RunConfig, prompts: Sequence[Prompt], heldout: Sequence[Prompt]) -> dict[str, str]:
    """Return the SHA-256 of what the configuration names: prompts, as they were read, files of code, and pictures."""
    found = {f"prompts {config.prompts}": _of_prompts(prompts)}
    if heldout:
        found[f"held-out prompts {config.evaluation.prompts}"] = _of_prompts(heldout)
    found |= {f"code {name}": _of_file(path) for name, path in _code(config).items()}
    return found | {f"pictures {name}": _of_pictures(path_of(name, "pictures")) for name in _pictures(config)}


def changed_inputs(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the names of inputs and weights that changed; of two manifests, what the first did not know did not."""
    known = {**before.get("sha256", {}).get("inputs", {}), **before.get("sha256", {}).get("weights", {})}
    found = {**now["sha256"]["inputs"], **now["sha256"]["weights"]}
    return [name for name, digest in known.items() if found.get(name) != digest]


def begun(folder: Path) -> bool:
    """Tell whether an iteration was done: a line was logged, or a checkpoint written."""
    log, place = folder / FILE, folder / CHECKPOINTS
    return (log.exists() and log.stat().st_size > 0) or any(place.glob("*.pt"))


def _of_prompts(prompts: Sequence[Prompt]) -> str:
    """Return what prompts say, and what is in the files that they bring along."""
    told = json.dumps([_told(prompt) for prompt in prompts], sort_keys=True, default=repr)
    return hashlib.sha256(told.encode()).hexdigest()


def _told(prompt: Prompt) -> list[Any]:
    files, meta = {name: _of_file(Path(place)) for name, place in prompt.inputs.items()}, dict(prompt.meta)
    if prompt.reference and prompt.reference.is_file():
        meta["reference"] = _of_file(prompt.reference)
    return [prompt.text, meta, *([files] if files else [])]


def _of_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _of_pictures(place: Path) -> str:
    """Return what a file says; of a folder what its tables and captions say, and the names and sizes of its pictures.

    A folder may hold more than can be read at each start, and a picture that is another one seldom has as many bytes.
    What runs below it have written is not of it.
    """
    if place.is_file():
        return _of_file(place)
    told, runs = [], {path.parent for path in place.rglob(CONFIG)} - {place}
    for path in sorted(path for path in place.rglob("*") if path.is_file() and runs.isdisjoint(path.parents)):
        if path.suffix.lower() in TABLES:
            told.append((path.relative_to(place).as_posix(), _of_file(path)))
        elif path.suffix.lower() in SUFFIXES:
            told.append((path.relative_to(place).as_posix(), str(path.stat().st_size)))
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _pictures(config: RunConfig) -> list[str]:
    """Return the files and folders of pictures that the configuration names."""
    source, anchor = config.source, config.anchor
    named = [anchor.data] if anchor.weight else []
    if isinstance(source, Pictures):
        named.append(source.data)
    if isinstance(source, Preferences):
        named += [source.data, source.worse, source.masks]
    named += [node.data for reward in _rewards(config) for node in walk(reward) if isinstance(node, Against)]
    return sorted({name for name in named if name and name not in WORLDS})


def _rewards(config: RunConfig) -> list[Expression]:
    """Return the expressions that the configuration names."""
    return [parse(text) for text in (config.reward, config.evaluation.reward) if text and not is_object(text)]


def _code(config: RunConfig) -> dict[str, Path]:
    """Return the files of the user's own code that the configuration names, and of what they import beside them."""
    named = {leaf.name for reward in _rewards(config) for leaf in leaves(reward) if leaf.name not in REWARDS}
    found: dict[str, Path] = {}
    for name in sorted(named | code_of(config)):
        place = name.rpartition(":")[0]
        file = place if place.endswith(".py") else vars(sys.modules[place]).get("__file__")
        if file:
            path = Path(file).expanduser()
            beside = [each for each in with_imports(path) if each != path]
            found |= {os.path.join(os.path.dirname(place), os.path.relpath(each, path.parent)): each for each in beside}
            found[place] = path
    return found
