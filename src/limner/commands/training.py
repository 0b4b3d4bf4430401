"""The commands that make a model do better, and what a person asks before: what will happen, and what can be set."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limner.commands.parser import AddCommand, Parser
from limner.core.errors import UserError, shown
from limner.core.paths import to_folder

KEYS = """Every key of the configuration can be set as --KEY VALUE, nested ones with dots:
  --steps 40 --sampler.steps 8 --optimizer.lr 1e-3 --algorithm DiffusionNFT --algorithm.beta 0.5
`limner keys RECIPE` lists them with their meaning, `limner list` names recipes, rewards, algorithms and models."""
LISTED_KEYS = """Keys that are set here choose whose keys are listed, as in: limner keys scenes --algorithm FlowGRPO"""
PRETRAINING_KEYS = """Every key of the pretraining can be set as --KEY VALUE:
  --model sd3|sd|tokens|amused|gan --steps 8000 --batch 128 --lr 3e-3 --noisy-share 0.3 --seed 0"""
DISTILLATION_KEYS = """Every key of the distillation can be set as --KEY VALUE:
  --steps 4 --guidance 4 --chains 2400 --updates 400 --lr 1e-3 --prompts FILE --seed 0"""

MAX_PROCESSES = 64
"""On one machine: as many have never been tried."""

RECIPE = frozenset({"--help", "--preset", "--reward", "--prompts", "--seed", "--out"})
OWN_FLAGS = {"check": RECIPE | {"--card"}, "keys": RECIPE, "pretrain": frozenset({"--help", "--out"})}
OWN_FLAGS["loop"] = RECIPE | {
    "--annotator", "--rounds", "--pairs", "--choice", "--pool", "--explore", "--enough", "--each", "--doubtful",
    "--quiet",
}  # fmt: skip
OWN_FLAGS["distill"] = OWN_FLAGS["pretrain"]
OWN_FLAGS["train"] = RECIPE | {"--resume", "--accept-changes", "--quiet", "--nproc", "--card"}
OWN_FLAGS["plan"] = RECIPE | {"--card", "--processes", "--machines", "--measure", "--tflops", "--price", "--json"}
OWN_FLAGS["launch"] = RECIPE | {
    "--run", "--nodes", "--gpus-per-node", "--sessions", "--judge", "--judge-gpus", "--partition", "--account",
    "--cpus-per-gpu", "--setup", "--image", "--volume",
}  # fmt: skip
OWN_FLAGS["reward"] = frozenset({"--help", "--out", "--world", "--count", "--on"})
"""The commands that take keys of a configuration, and the flags of theirs that are no keys."""


TO_FIT = "set what makes it fit an accelerator of so much memory, as `limner plan` predicts"


def add_training_commands(command: AddCommand) -> None:
    """Add `train`, `check`, `keys`, `distill` and `pretrain`."""
    train = command("train", _train, "train by a recipe, and write a run folder with a report", KEYS)
    add_recipe(train)
    train.add_argument("--resume", action="store_true", help="go on from the last checkpoint in the run folder")
    train.add_argument("--accept-changes", action="store_true", help="resume though prompts, rewards or base changed")
    train.add_argument("--quiet", action="store_true", help="no progress line")
    train.add_argument("--nproc", type=int, default=1, metavar="N", help="processes here that share the run (1)")
    add_card(train, TO_FIT)
    check = command("check", _check, "tell what a training would do and cost, and write nothing", KEYS)
    add_recipe(check)
    add_card(check, TO_FIT)
    keys = command("keys", _keys, "list all keys of a configuration: what each is, takes and means", LISTED_KEYS)
    add_recipe(keys)
    keys.add_argument("word", metavar="WORD", nargs="?", default="", help="only keys with this in their name")
    distill = command(
        "distill", _distill, "make a student of few steps of a model; goes on where it stopped", DISTILLATION_KEYS
    )
    distill.add_argument("model", metavar="MODEL", help="a recipe (its base), or a base: name, folder, hub id")
    distill.add_argument("--out", type=Path, metavar="DIR", help="a folder (runs/distill-MODEL)")
    pretrain = command(
        "pretrain", _pretrain, "train a world's base model from nothing; goes on where it stopped", PRETRAINING_KEYS
    )
    pretrain.add_argument("world", metavar="WORLD", help="scenes, words, emoji or motion")
    pretrain.add_argument("--out", type=Path, metavar="DIR", help="a folder (runs/pretrain-WORLD-MODEL)")


def add_recipe(parser: Parser, out: str = "--out") -> None:
    """Add what names a configuration; `out` is the flag of its run folder."""
    parser.add_argument(
        "recipe", metavar="RECIPE", help="a name, a .py file with a function recipe(), or a config.yaml"
    )
    parser.add_argument("--preset", metavar="NAME", help="settings of a published method, see `limner list`")
    parser.add_argument(
        "--reward",
        action="append",
        metavar="EXPRESSION",
        help="as in jpeg_size, file.py:function or '0.7 * scenes - 0.1 * jpeg_size'",
    )
    parser.add_argument(
        "--prompts", metavar="FILE", help="prompts: .txt, one a line, .jsonl, or as in objects:train (RECIPE's)"
    )
    parser.add_argument("--seed", metavar="N", help="seed of everything that is random")
    parser.add_argument(out, metavar="DIR", help="the run folder (runs/NAME-SEED)")


def add_card(parser: Parser, about: str) -> None:
    """Add what names the memory of an accelerator."""
    parser.add_argument("--card", metavar="GB", help=f"{about}: 12, 16, 24, 48 or 80")


def card_of(parsed: argparse.Namespace) -> int | None:
    """Return the memory that was named, in GB. Raises UserError for that of no usual card."""
    from limner.registry.published import CARDS

    if parsed.card is not None and parsed.card not in map(str, CARDS):
        raise UserError(f"--card is one of {', '.join(map(str, CARDS))} (GB), got {shown(parsed.card)}")
    return int(parsed.card) if parsed.card is not None else None


def _fitted(parsed: argparse.Namespace, config: Any, processes: int) -> Mapping[str, str]:
    """Return the keys by which a run fits the card that was named, and say which; none were, or it fits: {}."""
    card = card_of(parsed)
    if card is None:
        return {}
    from limner.machine.fitting import way_to_fit

    way = way_to_fit(config, card, processes)
    if way is None:
        return {}
    print(f"card {card} GB: {way.flags} ({way.price})", file=sys.stderr)
    return way.keys


def config_of(parsed: argparse.Namespace, values: Mapping[str, Any]) -> Any:
    """Return the recipe's configuration with what the command line changes; other rewards are evaluated as well."""
    from limner.recipes.named import recipe
    from limner.recipes.override import override
    from limner.recipes.presets import with_preset

    if parsed.reward and len(parsed.reward) > 1:
        raise UserError(f"--reward is one expression: write --reward '{' + '.join(parsed.reward)}'")
    given = {
        "prompts": parsed.prompts,
        "seed": parsed.seed,
        "out": parsed.out,
        "reward": parsed.reward and parsed.reward[0],
    }
    if parsed.reward:
        values = {"evaluation.reward": "", **values}
    values = {**values, **{k: v for k, v in given.items() if v is not None}}
    config = recipe(parsed.recipe)
    return with_preset(config, parsed.preset, values) if parsed.preset is not None else override(config, values)


def _train(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    from limner import run
    from limner.engine.processes import size_of_team
    from limner.recipes.override import override

    config = config_of(parsed, values)
    if parsed.nproc != 1 and _shared(parsed, config):
        return
    config = override(config, _fitted(parsed, config, size_of_team() or 1))
    done = run.train(config, resume=parsed.resume, quiet=parsed.quiet, accept_changes=parsed.accept_changes)
    if done.leads:
        print(done.folder / "report.html")


def _shared(parsed: argparse.Namespace, config: Any) -> bool:
    """Carry out what was typed in as many processes as --nproc says; tell whether: in one of those, do not.

    Raises UserError for a number that cannot be meant.
    """
    from limner.engine.processes import size_of_team, together

    count = parsed.nproc
    if not 1 <= count <= MAX_PROCESSES:
        raise UserError(f"--nproc is a number of processes, from 1 to {MAX_PROCESSES}, got {count}")
    there = size_of_team()
    if there not in (None, count):
        raise UserError(f"--nproc is {count}, but torchrun has started {there} already: leave --nproc out")
    if there is None:
        together(count, parsed.main, _typed(parsed, _fitted(parsed, config, count)), "limner.run")
    return there is None


def _typed(parsed: argparse.Namespace, keys: Mapping[str, str]) -> list[str]:
    """Return what was typed, with the keys by which it fits a card in the place of the card."""
    typed = list(parsed.typed)
    if parsed.card is not None:
        place = next(i for i, word in enumerate(typed) if word.partition("=")[0] == "--card")
        del typed[place : place + (1 if "=" in typed[place] else 2)]
    return typed + [word for key, value in keys.items() for word in (f"--{key}", value)]


def _check(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    from limner import run
    from limner.recipes.override import override

    config = config_of(parsed, values)
    config = override(config, _fitted(parsed, config, 1))
    print(run.check(config).text(config))


def _keys(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    from limner.recipes.keys import keys, text

    print(text(keys(config_of(parsed, values), parsed.word)))


def _pretrain(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    from limner import bases

    bases.pretrain(parsed.world, parsed.out and to_folder(parsed.out, "--out"), values)


def _distill(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    from limner import few_step

    print(few_step.make(parsed.model, parsed.out and to_folder(parsed.out, "--out"), values))
