"""The command that goes round: votes, a reward or none, a policy, and votes on what that draws."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any

from limner.commands import words
from limner.commands.parser import AddCommand
from limner.commands.training import config_of

KEYS = """Every key of the recipe can be set as --KEY VALUE, as of limner train; every one of a reward's training, as of
limner reward train, as --learned.KEY VALUE:
  --steps 40 --optimizer.lr 1e-3 --learned.epochs 20 --learned.design.members 4
A recipe whose source is Preferences (scenes_dpo) learns from the votes themselves; any other from a reward that has
learned them. The same command goes on where it stopped, and with more --rounds goes further."""


def add_loop_command(command: AddCommand) -> None:
    """Add `loop`."""
    loop = command("loop", _loop, "collect votes, learn from them, train, and collect again, round after round", KEYS)
    loop.add_argument("recipe", metavar="RECIPE", help="a name, a .py file with a function recipe(), or a config.yaml")
    loop.add_argument(
        "--annotator",
        default="synthetic",
        metavar="WHO",
        help="people (by limner annotate), synthetic, or an expression of judges, as in file.py:taste; several with ; "
        "between them (synthetic)",
    )
    loop.add_argument("--rounds", type=words.count, default=3, metavar="N", help="(3)")
    loop.add_argument("--pairs", type=words.count, default=256, metavar="N", help="asked in each round (256)")
    loop.add_argument(
        "--choice", choices=["random", "active"], default="random", help="active: what the reward is unsure of (random)"
    )
    loop.add_argument(
        "--pool", type=words.at_most(1000), default=4, metavar="N", help="of active: pairs drawn for one asked (4)"
    )
    loop.add_argument(
        "--explore", type=words.number, default=0.2, metavar="SHARE", help="of active: drawn by chance (0.2)"
    )
    loop.add_argument(
        "--enough",
        type=words.natural,
        default=0,
        metavar="N",
        help="of people: go on from so many pairs with a vote (all)",
    )
    loop.add_argument("--each", type=words.count, default=1, metavar="N", help="of people: votes that a pair needs (1)")
    loop.add_argument(
        "--doubtful",
        choices=["wait", "train"],
        default="wait",
        help="a round whose reward may agree with held-out votes by chance alone waits for the next one's votes (wait)",
    )
    loop.add_argument(
        "--reward", default="learned", metavar="EXPRESSION", help="as in 'pessimistic(learned, k=1)' (learned)"
    )
    loop.add_argument("--preset", metavar="NAME", help="settings of a published method, see `limner list`")
    loop.add_argument("--prompts", metavar="FILE", help="what pairs are drawn for (RECIPE's)")
    loop.add_argument("--seed", metavar="N", help="seed of everything that is random")
    loop.add_argument("--out", default="", metavar="DIR", help="a folder (runs/loop-NAME-SEED)")
    loop.add_argument("--quiet", action="store_true", help="no progress line")


def _loop(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    from limner.looping import Looping
    from limner.rounds import loop

    learned = "learned."
    learning = {key.removeprefix(learned): values.pop(key) for key in list(values) if key.startswith(learned)}
    config = config_of(argparse.Namespace(**vars(parsed) | {"reward": None, "out": None}), values)
    how = Looping(**{each.name: vars(parsed)[each.name] for each in fields(Looping)})
    print(loop(config, how, learning, parsed.out, parsed.quiet))
