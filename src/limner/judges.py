"""Puts judges together from the text that names them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from limner.cluster.place import Place
from limner.cluster.pool import Lost, Pool
from limner.core.errors import UserError, nearest
from limner.core.media import Media
from limner.core.protocols import Comparer, Judge, Reward, Specified
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.data.pairs import as_media, captioned, decoded, read_pairs
from limner.judging.cache import Cached
from limner.judging.checked import Checked, told
from limner.judging.spec import spec_of
from limner.judging.wire import LIMITS, identity
from limner.objects import RewardFunction, is_object, name_of_object
from limner.recipes.override import Place as Key
from limner.recipes.override import build
from limner.registry.find import find
from limner.registry.names import REWARDS, WORLDS
from limner.rewards.algebra.against import Against
from limner.rewards.algebra.compose import Composition
from limner.rewards.algebra.frames import Framewise
from limner.rewards.algebra.parse import parse
from limner.rewards.algebra.tree import Expression, Leaf, leaves, walk
from limner.rewards.algebra.within import Compare
from limner.rewards.function import usable
from limner.rewards.placed import Placed, spec_of_worker

REFERENCES = 512
"""Pictures of a world that samples are held against."""
RESERVED = ("mean", "std")
"""What the log says of the total as `reward/NAME`: no judge has such a name."""


def compose(text: str, cache: Path | None = None, given: RewardFunction | str | None = None) -> Composition:
    """Return the reward that an expression means, with its judges, or the `given` one that it stands for.

    In the folder `cache`, answers of judges that describe themselves as deterministic are kept and not asked for again.
    """
    if is_object(text):
        leaf = Leaf(name_of_object(text))
        return _composed(leaf, {leaf: usable(given, leaf.name)}, cache)
    return _composed(*judges_in(text), cache)


def described(text: str) -> tuple[Composition, list[RewardSpec]]:
    """Return the reward that an expression means, and what each of its judges says about itself."""
    expression, found = judges_in(text)
    return _composed(expression, found, None), [spec_of(leaf.column, judge) for leaf, judge in found.items()]


def judges_in(text: str) -> tuple[Expression, Mapping[Leaf, Reward | Comparer]]:
    """Return an expression, and the judges it names, none of them asked. Raises UserError for what names none."""
    if not text:
        raise UserError("no reward: name one, for example --reward jpeg_size")
    if text.endswith(".py"):
        raise UserError(f"reward {text}: which function of that file? Name it, as in {text}:my_function")
    expression = parse(text)
    return expression, {leaf: judge_of(leaf) for leaf in leaves(expression)}


def _composed(expression: Expression, found: Mapping[Leaf, Reward | Comparer], cache: Path | None) -> Composition:
    for leaf in found:
        if leaf.column in RESERVED:
            raise UserError(
                f"reward {expression}: no reward can be called {leaf.column!r}, for reward/{leaf.column} is the "
                "total's in the log; give the function another name"
            )
    judges = {leaf: _judge(leaf, each, cache) for leaf, each in found.items() if not isinstance(each, Comparer)}
    comparers = {leaf: _comparison(leaf, each) for leaf, each in found.items() if isinstance(each, Comparer)}
    return Composition(expression, judges, comparers, _references(expression, judges))


def _references(expression: Expression, judges: Mapping[Leaf, Judge]) -> dict[str, dict[str, Tensor]]:
    """Return what judges say of the data that samples are held against, by its name; pictures keep their sizes."""
    found: dict[str, dict[str, Tensor]] = {}
    for node in walk(expression):
        if isinstance(node, Against) and node.data:
            asked = {leaf: judges[leaf] for leaf in leaves(node) if leaf in judges}
            columns = [told({leaf.column: judge(*each) for leaf, judge in asked.items()}) for each in _known(node.data)]
            together = {name: torch.cat([each[name].double() for each in columns]) for name in columns[0]}
            found[node.data] = found.get(node.data, {}) | together
    return found


def _known(data: str) -> Iterator[tuple[Media, list[Prompt]]]:
    """Yield the pictures of a folder with metadata.jsonl, one at a time, or of a world."""
    if data in WORLDS:
        source = find(WORLDS, "world", data)()
        yield captioned([source.pair(np.random.default_rng(i), 0.0) for i in range(REFERENCES)], source.fps)
        return
    for path, prompt in read_pairs(data):
        picture = torch.from_numpy(np.array(decoded(path), dtype=np.float32) / 255).permute(2, 0, 1)
        yield as_media([picture]), [prompt]


def _judge(leaf: Leaf, reward: Reward, cache: Path | None) -> Judge:
    judge: Judge = Checked(leaf.column, reward)
    judge = Framewise(leaf.column, judge, leaf.over) if leaf.over else judge
    kept = isinstance(reward, Specified) and reward.spec.deterministic
    return Cached(leaf.column, judge, cache, identity(leaf.column, reward)) if cache and kept else judge


def _comparison(leaf: Leaf, comparer: Comparer) -> Compare:
    """Return what a comparer says in the form that `checked` gives."""

    def compare(a: Media, b: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        return Checked(leaf.column, lambda media, asked: comparer.compare(media, b, asked))(a, prompts)

    return compare


def serve_reward(text: str, host: str, port: int, token_env: str, judge_seconds: int) -> None:
    """Host the reward that an expression means over HTTP, until interrupted; a request has `judge_seconds`."""
    try:
        from limner.serve.host import serve
    except ModuleNotFoundError as error:
        raise UserError(f"serve-reward needs {error.name}: pip install 'limner[serve]'") from error
    expression, found = judges_in(text)
    token = os.environ.get(token_env, "") if token_env else ""
    if token_env and not token:
        raise UserError(f"--token-env {token_env}: that environment variable holds no token; set it")
    reward = _composed(expression, found, None)
    reward.require_absolute("host a reward that scores each picture by itself")
    alone = cast(Reward, found[expression]) if isinstance(expression, Leaf) else reward  # no comparer is absolute
    serve(alone, str(expression), host, port, token, replace(LIMITS, judge_seconds=judge_seconds))


def examples(world: str, count: int) -> tuple[Media, list[Prompt]]:
    """Return pictures or clips of a world with captions, every other one of which may be wrong."""
    source = find(WORLDS, "world", world)()
    return captioned([source.pair(np.random.default_rng(i), 0.5 * (i % 2)) for i in range(count)], source.fps)


def judge_of(leaf: Leaf) -> Reward | Comparer:
    """Return the reward a leaf names: a built-in one with its settings, or the function FILE.py:FUNCTION."""
    if leaf.place is not None:
        return _placed(replace(leaf, place=None, over=None), leaf.place)
    if leaf.name not in REWARDS:
        if ":" in leaf.name:
            if leaf.settings:
                raise UserError(
                    f"reward {leaf}: settings are for built-in judges; write `my_reward = ...` with yours into "
                    f"{leaf.name.rpartition(':')[0]}, and name my_reward"
                )
            return own_reward(leaf.name)
        raise UserError(
            f"unknown reward {leaf.name!r}{nearest(leaf.name, REWARDS)}; your own is named FILE.py:FUNCTION"
        )
    found, settings = find(REWARDS, "reward", leaf.name), dict(leaf.settings)
    if not isinstance(found, type):
        if settings:
            raise UserError(f"reward {leaf}: {leaf.name} has no settings")
        return found
    known = {field.name for field in fields(found) if field.init}
    for key in settings:
        if key not in known:
            raise UserError(f"reward {leaf}: {leaf.name} has no setting {key!r}{nearest(key, known)}")
    return build(found, settings, Key(f"reward {leaf.name}: "))


def _placed(leaf: Leaf, place: Place) -> Placed:
    """Return the judge of a leaf in workers. Raises UserError, once one of them has tried, if it cannot be made."""
    pool = Pool(partial(_alone, leaf), place, f"reward {leaf}")
    try:
        spec = pool.answer(pool.ask(spec_of_worker))
    except Lost as lost:
        raise UserError(str(lost)) from lost
    return Placed(str(leaf), pool, replace(spec, differentiable=False))


def _alone(leaf: Leaf) -> Judge:
    """Return, in a worker, the judge that it holds."""
    found = judge_of(leaf)
    if isinstance(found, Comparer):
        raise UserError(f"reward {leaf} compares, and ray(...) takes a judge that scores: host it with serve-reward")
    return Checked(leaf.column, found)


def own_reward(name: str) -> Reward | Comparer:
    """Return the user's own reward or comparer that `FILE.py:NAME`, or `package.module:NAME`, names."""
    found = find(REWARDS, "reward", name)
    return found if isinstance(found, Comparer) else usable(found, name)
