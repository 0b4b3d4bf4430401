"""What a loop of rounds is, and what is refused before one begins or goes on; the rounds themselves: rounds.py."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from limner.build import load_prompts
from limner.core.errors import UserError
from limner.core.settings import Count, Natural, Range, Share, settings
from limner.core.types import Prompt
from limner.judges import judges_in
from limner.recipes.override import override
from limner.recipes.yaml import to_yaml
from limner.report.file import read_object
from limner.training.config import RunConfig
from limner.training.judged import require_pairing
from limner.training.reward_model import RewardTraining
from limner.training.source import Preferences
from limner.votes import SYNTHETIC, of_round, several

LOOP = "loop.json"
LEARNED = re.compile(r"\blearned\b(?!\([^)]*\bfolder\b)(\(\s*\)?)?")
"""Where an expression names the round's reward, `learned` or, of somebody's own, `learned(taste='annotator-1')`."""
CHANGEABLE = ("rounds", "enough", "each", "doubtful")
"""Settings of `Looping` that do not change what the rounds that are done have come to."""


def learned_from(reward: str, folder: str) -> str:
    """Return an expression in which `learned` is the reward in a folder, where it names none of its own."""
    begun = f"learned(folder={folder!r}"
    return LEARNED.sub(lambda at: f"{begun}, " if (at[1] or "").strip() == "(" else f"{begun})", reward)


@settings
class Looping:
    """How a loop goes round; what is trained stands in the recipe, and how a reward is learned in `RewardTraining`."""

    rounds: Count = 3
    annotator: str = SYNTHETIC
    """Who says which is better: `people`, at the page of limner annotate; `synthetic`; or an expression of judges.

    Of several, with `;` between them, each says something of every pair, and their expressions are their names.
    """
    pairs: Count = 256
    """Asked in each round."""
    choice: Literal["random", "active"] = "random"
    """Whether all pairs that are drawn are asked, or of `pool` times as many those that the reward is unsure of."""
    pool: Annotated[int, Range(least=2, most=1000)] = 4
    explore: Share = 0.2
    """The share of the pairs chosen actively that is drawn by chance; all of held-out prompts are, beside these."""
    reward: str = "learned"
    """What a policy is trained against: an expression in which `learned` is the round's reward."""
    enough: Natural = 0
    """Pairs with `each` votes of people from which on a round goes on; 0: all."""
    each: Count = 1
    """Votes of people that a pair needs, as with `limner annotate --votes`."""
    doubtful: Literal["wait", "train"] = "wait"
    """What a round does whose reward agrees with held-out votes no more often than chance may: `wait` for the votes of
    the round after it, which then learns from both, or train against it all the same."""


@dataclass(frozen=True)
class Loop:
    """What a loop is: the run of each round, how it goes round, settings of `RewardTraining`, and where it is kept."""

    config: RunConfig
    how: Looping
    learning: Mapping[str, Any]
    folder: Path
    quiet: bool

    @property
    def direct(self) -> bool:
        """Whether the recipe learns from votes themselves, as DPO does, and no reward is learned."""
        return isinstance(self.config.source, Preferences)

    def place(self, number: int) -> Path:
        """Return the folder of a round."""
        return self.folder / f"round-{number}"

    def say(self, text: str) -> None:
        """Tell how far it is."""
        if not self.quiet:
            print(text, file=sys.stderr)

    @cached_property
    def prompts(self) -> Sequence[Prompt]:
        """Return what pairs are drawn for."""
        return load_prompts(self.config.prompts)

    def described(self) -> dict[str, Any]:
        """Return what loop.json says of it: all that may not change from one round to the next."""
        config = to_yaml(replace(self.config, out=""))
        how = {name: value for name, value in asdict(self.how).items() if name not in CHANGEABLE}
        return {**how, "learning": {name: str(value) for name, value in self.learning.items()}, "config": config}


def require_possible(one: Loop) -> None:
    """Refuse what could not work before anything is drawn."""
    name, how = one.config.name, one.how
    if not one.config.prompts:
        raise UserError(f"recipe {name} has no prompts to draw pairs for: give --prompts, as in scenes:train")
    if one.direct and how.choice == "active":
        raise UserError(
            f"--choice active asks a learned reward what it is unsure of, and recipe {name} learns from votes "
            "themselves: take --choice random, or a recipe that learns from a reward"
        )
    if one.direct and (how.reward != Looping.reward or one.learning):
        raise UserError(
            f"recipe {name} learns from votes themselves, so that no reward is learned: leave --reward and --learned.* "
            "away, or take a recipe that learns from a reward"
        )
    if isinstance(one.config.source, Preferences):
        require_pairing(one.config.algorithm, "the votes of a loop are on", one.config.source.unpair)
    if not one.direct and not LEARNED.search(how.reward):
        raise UserError(f"--reward {how.reward} does not name the round's reward: write learned where it is to stand")
    learning = override(RewardTraining(), one.learning, "--learned.")
    if not one.direct:
        require_reward(how.reward, learning)
    several(how.annotator)
    load_prompts(one.config.prompts)
    if one.config.evaluation.prompts:
        load_prompts(one.config.evaluation.prompts)


def require_reward(reward: str, learning: RewardTraining) -> None:
    """Refuse what the policy is trained against, if it will be no reward once a round's has been learned."""
    for leaf, judge in judges_in(reward)[1].items():
        if of_round(judge) and judge.taste and not learning.design.tastes:
            raise UserError(
                f"--reward {reward}: {leaf} judges as one person, and the round's reward learns what all like: give "
                "--learned.design.tastes 1"
            )


def require_same(one: Loop) -> None:
    """Refuse a folder that holds something else, or a loop that goes round otherwise."""
    if not (one.folder / LOOP).exists():
        there = {each.name for each in one.folder.iterdir()} if one.folder.is_dir() else set()
        if there - {".lock", f".{LOOP}.part"}:
            raise UserError(f"{one.folder} exists and holds no loop; choose another with --out")
        return
    was = read_object(one.folder / LOOP) or {}
    for key, now in one.described().items():
        if was.get(key) == now:
            continue
        before, after = (str(each).splitlines() for each in (was.get(key), now))
        old, new = next(((a, b) for a, b in zip(before, after, strict=False) if a != b), (before[-1:], after[-1:]))
        raise UserError(
            f"{one.folder} holds a loop of another {key} ({old} there, {new} now); choose another folder with --out"
        )
