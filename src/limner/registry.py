"""What there is, by name: models, worlds, rewards, algorithms, recipes; the one list of concrete names."""

from __future__ import annotations

import importlib
import json
import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np

from limner.core.errors import UserError, nearest
from limner.core.media import Media
from limner.core.protocols import Comparer, Judge, Reward, Specified
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.data.pairs import shown
from limner.data.prompts import read_prompts
from limner.judging.cache import Cached
from limner.judging.checked import Checked
from limner.judging.spec import Declared, spec_of
from limner.judging.wire import LIMITS, identity
from limner.policies.denoising import Sampler
from limner.recipes.presets import PRESETS
from limner.recipes.yaml import from_yaml
from limner.rewards.algebra.compose import Compare, Composition
from limner.rewards.algebra.parse import parse
from limner.rewards.algebra.tree import Expression, Leaf, leaves
from limner.rewards.function import load_reward
from limner.training.config import RunConfig

RECIPES = {
    "scenes": "limner.recipes.scenes:recipe",
    "scenes_grpo": "limner.recipes.scenes_grpo:recipe",
    "words": "limner.recipes.words:recipe",
    "emoji": "limner.recipes.emoji:recipe",
}
MODELS = {"sd3": "limner.models.sd3.adapter:SD3", "sd": "limner.models.sd.adapter:SD"}
FRESH = {
    "sd3": "limner.models.sd3.pretraining:SD3Pretraining",
    "sd": "limner.models.sd.pretraining:SDPretraining",
}
BASES = {
    "scenes": "limner.worlds.scenes.reward:BASE",
    "scenes_sd": "limner.worlds.scenes.reward:BASE_SD",
    "words": "limner.worlds.words.world:BASE",
    "emoji": "limner.worlds.emoji.world:BASE",
}
WORLDS = {
    "scenes": "limner.worlds.scenes.reward:Scenes",
    "words": "limner.worlds.words.world:Words",
    "emoji": "limner.worlds.emoji.world:Emojis",
}
PROMPTS = {
    "emoji": "limner.worlds.emoji.grammar:prompts",
    "scenes": "limner.worlds.scenes.grammar:prompts",
    "words": "limner.worlds.words.grammar:prompts",
    "oracle": "limner.worlds.oracle.world:prompts",
}
REWARDS = {
    "scenes": "limner.worlds.scenes.reward:scenes",
    "scenes_fraction": "limner.worlds.scenes.reward:scenes_fraction",
    "emoji": "limner.worlds.emoji.judges:EmojiJudge",
    "emoji_second": "limner.worlds.emoji.judges:EmojiSecond",
    "o1": "limner.worlds.oracle.reward:o1",
    "o2": "limner.worlds.oracle.reward:o2",
    "o3": "limner.worlds.oracle.reward:o3",
    "jpeg_size": "limner.rewards.jpeg_size:jpeg_size",
    "jpeg_compressibility": "limner.rewards.jpeg_size:jpeg_compressibility",
    "sharpness": "limner.rewards.sharpness:sharpness",
    "contrast": "limner.rewards.contrast:contrast",
    "colourfulness": "limner.rewards.colourfulness:colourfulness",
    "symmetry": "limner.rewards.symmetry:Symmetry",
    "layout": "limner.rewards.layout:layout",
    "brisque": "limner.rewards.brisque.reward:Brisque",
    "clip_score": "limner.rewards.vision.clip_score:ClipScore",
    "pickscore": "limner.rewards.vision.pickscore:PickScore",
    "laion_aesthetic": "limner.rewards.vision.laion_aesthetic:LaionAesthetic",
    "hpsv2": "limner.rewards.vision.hpsv2:HPSv2",
    "image_reward": "limner.rewards.vision.image_reward:ImageReward",
    "dino_similarity": "limner.rewards.vision.dino_similarity:DinoSimilarity",
    "vqa_score": "limner.rewards.vision.vqa_score:VqaScore",
    "ocr": "limner.rewards.ocr:OCR",
    "remote": "limner.rewards.remote:Remote",
    "vlm_yes_no": "limner.rewards.vlm.yes_no:VLMYesNo",
    "vlm_rubric": "limner.rewards.vlm.rubric:VLMRubric",
    "vlm_checklist": "limner.rewards.vlm.checklist:VLMChecklist",
    "vlm_pairwise": "limner.rewards.vlm.pairwise:VLMPairwise",
    "geneval_hf": "limner.rewards.vision.geneval_hf:GenEvalHF",
}
ALGORITHMS = {
    "DDPO": "limner.algorithms.ddpo:DDPO",
    "PPO": "limner.algorithms.ppo:PPO",
    "TRPO": "limner.algorithms.trpo:TRPO",
    "FlowGRPO": "limner.algorithms.flow_grpo:FlowGRPO",
    "GRPOGuard": "limner.algorithms.grpo_guard:GRPOGuard",
    "FlowDPPO": "limner.algorithms.flow_dppo:FlowDPPO",
    "DiffusionNFT": "limner.algorithms.diffusion_nft:DiffusionNFT",
    "DGPO": "limner.algorithms.dgpo:DGPO",
    "AWM": "limner.algorithms.awm:AWM",
    "RewardWeighted": "limner.algorithms.reward_weighted:RewardWeighted",
}
CATALOGUE = {"recipes": RECIPES, "models": MODELS, "rewards": REWARDS, "algorithms": ALGORITHMS}


def load(registry: Mapping[str, str], kind: str, name: str) -> Any:
    """Return what a registry, or a dotted path `package.module:name`, calls `name`."""
    path = registry.get(name, name)
    module, separator, attribute = path.partition(":")
    if not separator:
        raise UserError(f"unknown {kind} {name!r}{nearest(name, registry)}")
    try:
        return vars(importlib.import_module(module))[attribute]
    except (ModuleNotFoundError, KeyError) as error:
        raise UserError(f"{kind} {name!r}: cannot import {path} ({error})") from error


def catalogue() -> dict[str, dict[str, str]]:
    """Return what there is: for each kind, names and the first line of their documentation."""
    found = {}
    for kind, registry in CATALOGUE.items():
        found[kind] = {name: _first_line(load(registry, kind, name)) for name in registry}
    dynamics = get_args(get_type_hints(Sampler)["dynamics"])
    found["dynamics"] = {each.__name__: _first_line(each) for each in dynamics}
    found["presets"] = {name: each.about for name, each in PRESETS.items()}
    found["bases"] = {name: f"a {_pipeline(load(BASES, 'base', name))} that ships with limner" for name in BASES}
    return found


def _first_line(thing: Any) -> str:
    """Return what a thing is; an algorithm's file says it better than its class, which is its hyper-parameters."""
    if isinstance(thing, Declared):
        return thing.spec.about
    about = sys.modules[thing.__module__] if thing.__module__.startswith("limner.algorithms.") else thing
    return (about.__doc__ or "").strip().splitlines()[0]


def _pipeline(folder: Path) -> str:
    """Return the name of diffusers' class that a folder is of."""
    name: str = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))["_class_name"]
    return name


def recipe(name: str) -> RunConfig:
    """Return the configuration that `name` stands for: a recipe, a `.py` file with `recipe()`, or a `config.yaml`."""
    path = Path(name).expanduser()
    if name in RECIPES:
        return load(RECIPES, "recipe", name)()
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return from_yaml(path.read_text(encoding="utf-8"), str(path))
    if path.suffix == ".py" and path.is_file():
        made = runpy.run_path(str(path)).get("recipe")
        config = made() if callable(made) else None
        if not isinstance(config, RunConfig):
            raise UserError(f"recipe {name}: the file has no function recipe() that returns a limner.RunConfig")
        return config
    if path.suffix in (".py", ".yaml", ".yml"):
        raise UserError(f"recipe {name}: no such file")
    raise UserError(f"unknown recipe {name!r}{nearest(name, RECIPES)}")


def load_prompts(source: str) -> list[Prompt]:
    """Return the prompts of a world's split (`scenes:train`) or of a file."""
    world, separator, split = source.partition(":")
    if separator and world in PROMPTS:
        if split not in ("train", "heldout"):
            raise UserError(f"prompts {source!r}: unknown split{nearest(split, ['train', 'heldout'])}")
        return load(PROMPTS, "prompts", world)(split)
    if not source:
        raise UserError("no prompts: give --prompts FILE (.txt or .jsonl) or a world's split such as scenes:train")
    return read_prompts(source).prompts


def compose(text: str, cache: Path | None = None) -> Composition:
    """Return the reward that an expression means, with its judges.

    In the folder `cache`, answers of judges that describe themselves as deterministic are kept and not asked for again.
    """
    return _composed(*_judged(text), cache)


def described(text: str) -> tuple[Composition, list[RewardSpec]]:
    """Return the reward that an expression means, and what each of its judges says about itself."""
    expression, found = _judged(text)
    return _composed(expression, found, None), [spec_of(leaf.column, judge) for leaf, judge in found.items()]


def _judged(text: str) -> tuple[Expression, Mapping[Leaf, Reward | Comparer]]:
    """Return an expression, and the judges it names."""
    if not text:
        raise UserError("no reward: name one, for example --reward jpeg_size")
    expression = parse(text)
    return expression, {leaf: judge_of(leaf) for leaf in leaves(expression)}


def _composed(expression: Expression, found: Mapping[Leaf, Reward | Comparer], cache: Path | None) -> Composition:
    judges = {leaf: _judge(leaf, each, cache) for leaf, each in found.items() if not isinstance(each, Comparer)}
    comparers = {leaf: _comparison(leaf, each) for leaf, each in found.items() if isinstance(each, Comparer)}
    return Composition(expression, judges, comparers)


def _judge(leaf: Leaf, reward: Reward, cache: Path | None) -> Judge:
    judge = Checked(leaf.column, reward)
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
    expression, found = _judged(text)
    token = os.environ.get(token_env, "") if token_env else ""
    if token_env and not token:
        raise UserError(f"--token-env {token_env}: that environment variable holds no token; set it")
    reward = _composed(expression, found, None)
    reward.require_absolute("host a reward that scores each picture by itself")
    alone = found[expression] if isinstance(expression, Leaf) else reward
    serve(alone, str(expression), host, port, token, replace(LIMITS, judge_seconds=judge_seconds))


def examples(world: str, count: int) -> tuple[Media, list[Prompt]]:
    """Return pictures of a world with captions, every other one of which may be wrong."""
    source = load(WORLDS, "world", world)()
    return shown([source.pair(np.random.default_rng(i), 0.5 * (i % 2)) for i in range(count)])


def judge_of(leaf: Leaf) -> Reward | Comparer:
    """Return the reward a leaf names: a built-in one with its settings, or the function FILE.py:FUNCTION."""
    if leaf.name not in REWARDS:
        if ":" in leaf.name:
            return load_reward(leaf.name)
        raise UserError(
            f"unknown reward {leaf.name!r}{nearest(leaf.name, REWARDS)}; your own is named FILE.py:FUNCTION"
        )
    found, settings = load(REWARDS, "reward", leaf.name), dict(leaf.settings)
    if not isinstance(found, type):
        if settings:
            raise UserError(f"reward {leaf}: {leaf.name} has no settings")
        return found
    known = [field.name for field in fields(found)]
    for key in settings:
        if key not in known:
            raise UserError(f"reward {leaf}: {leaf.name} has no setting {key!r}{nearest(key, known)}")
    try:
        return found(**settings)
    except TypeError as error:
        raise UserError(f"reward {leaf}: {error}") from error
