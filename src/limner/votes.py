"""Who says which of two is better in a round of `limner loop`: people, at the page of limner annotate, or judges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from limner.core.errors import LimnerError, UserError
from limner.core.media import Media
from limner.core.protocols import Comparer
from limner.core.types import Prompt
from limner.data.lines import parse_object
from limner.data.pairs import as_media, read_saved
from limner.judges import compose, judges_in
from limner.pairs import SIDES, judged
from limner.rewards.algebra.compose import Composition
from limner.rewards.learned.reward import Learned

PEOPLE, SYNTHETIC = "people", "synthetic"
ANNOTATOR = 'win_rate(annotator(of="scenes_fraction", noise=0.2, ties=0.25))'
"""Who `synthetic` is."""

Rows = Sequence[Mapping[str, Any]]
"""Pairs, a row each, as .jsonl files hold them."""


def several(annotator: str) -> Mapping[str, Composition]:
    """Return who judges, each by itself; none for `people`.

    Raises UserError for one twice, none between two `;`, people beside judges, and what is no expression of judges.
    """
    names = [each.strip() for each in annotator.split(";")]
    if names == [PEOPLE]:
        return {}
    if not all(names) or len(set(names)) < len(names):
        raise UserError(f"--annotator {annotator}: several are different expressions, with one ; between two of them")
    if PEOPLE in names:
        raise UserError(f"--annotator {annotator}: people answer at a page, and no judge beside them; take either")
    return {name: compose(ANNOTATOR if name == SYNTHETIC else name) for name in names}


def of_round(judge: object) -> TypeGuard[Learned]:
    """Tell whether a judge that an expression names is the reward of the round that it is asked in."""
    return isinstance(judge, Learned) and not judge.folder


def beside(reward: str) -> list[Composition]:
    """Return the judges that an expression names beside the round's reward, each by itself."""
    found = [(leaf, judge) for leaf, judge in judges_in(reward)[1].items() if not of_round(judge)]
    return [compose(f"win_rate({leaf})" if isinstance(judge, Comparer) else str(leaf)) for leaf, judge in found]


def require_able(key: str, judges: Composition, media: Media, prompt: Prompt) -> None:
    """Ask judges about a pair. Raises UserError, which names the option `key`, if they cannot be asked about such."""
    try:
        judged(judges, media, [prompt] * len(SIDES))
    except LimnerError as error:
        raise UserError(f"--{key} {judges.expression}: it cannot judge what the model draws: {error}") from error


def of_judge(name: str, judges: Composition, place: Path, rows: Rows, prompts: Sequence[Prompt], size: int) -> Rows:
    """Return what a judge says of pairs, from their files, as people see them; what it cannot judge is left out."""
    by_text, votes = {prompt.text: prompt for prompt in prompts}, []
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        shown = [read_saved(place / row[f"media_{side}"], row.get("frames")) for side in SIDES for row in some]
        media = as_media(shown, some[0].get("fps", 1.0))
        a, b = judged(judges, media, [by_text[row["prompt"]] for row in some] * 2).unflatten(0, (2, -1))
        for row, first, second in zip(some, a.tolist(), b.tolist(), strict=True):
            if first == first and second == second:
                choice = "a" if first > second else "b" if second > first else "tie"
                votes.append({**row, "choice": choice, "annotators": [name]})
    return votes


def of_people(asked: Path, rows: Rows, enough: int, each: int) -> Rows | None:
    """Return what people said at the page of `asked`, a row a vote; None while too few pairs have `each` votes.

    Raises UserError for a vote on a pair that was not asked.
    """
    try:
        from limner.feedback.export import lines
        from limner.feedback.ledger import Ledger
    except ModuleNotFoundError as error:
        raise UserError(f"--annotator people needs {error.name}: pip install 'limner[annotate]'") from error
    database = asked.with_suffix(".db")
    found = lines(Ledger(f"sqlite:///{database.resolve()}"), each_vote=True) if database.exists() else ()
    said = [parse_object(line, str(database)) for line in found]
    wanted, by_name = min(enough or len(rows), len(rows)), {Path(row["media_a"]).name: row for row in rows}
    names = [Path(vote["media_a"]).name for vote in said]  # a folder that was moved since is still the same one
    if odd := next((name for name in names if name not in by_name), None):
        raise UserError(f"votes {database}: {odd} is of no pair of {asked}; these are votes on something else")
    if sum(count >= each for count in Counter(names).values()) < wanted:
        some, more = ("a vote", "") if each == 1 else (f"{each} votes", f" --invite {each} --votes {each}")
        have = sum(count >= each for count in Counter(names).values())
        print(
            f"{have} of {wanted} pairs have {some}; ask people with: limner annotate {asked}{more}\n"
            "and then go on with the same command"
        )
        return None
    return [_drawn(vote, by_name[name]) for name, vote in zip(names, said, strict=True)]


def _drawn(vote: Mapping[str, Any], row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a vote on a pair, with the probability that both the pair was asked and the vote was."""
    asked = ["active" if "active" in (each, row.get("asked")) else each for each in vote["asked"]]
    return {**vote, **row, "propensity": [row["propensity"] * each for each in vote["propensity"]], "asked": asked}
