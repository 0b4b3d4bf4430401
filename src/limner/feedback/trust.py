"""Whose answers are left out of an export: by name, by questions whose answer is known, or by how far all agree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence

import torch

from limner.core.errors import UserError
from limner.feedback.agreement import Answers
from limner.feedback.ledger import Ledger
from limner.feedback.task import TIES, Vote
from limner.objectives.rating import fit_people
from limner.report.text import quantity

FIRST: Mapping[Hashable, float] = {0: 1.0, 1: 0.5, 2: 0.0}
"""The share of an outcome, 0 (the first), 1 (alike) or 2, that is for the first."""


def untrusted(
    ledger: Ledger, names: Sequence[str] = (), least_known: float = 0.0, least_right: float = 0.0
) -> tuple[dict[str, str], list[str]]:
    """Return who is left out and why, and what cannot be said of whom, so that they stay.

    Left out are the `names`; who answered less than a share `least_known` of the questions right whose answer is known;
    and who chooses the truly better one with a probability below `least_right` (`right_of`). All is of the question
    that was asked first. Raises UserError for a name that nobody has.
    """
    invited = {each.pseudonym for each in ledger.board.annotators.values()}
    if strange := sorted(set(names) - invited):
        raise UserError(
            f"--without {strange[0]}: nobody is called so; there are {', '.join(_counted(invited)) or 'none'}"
        )
    out, unsaid = dict.fromkeys(sorted(set(names)), "as --without says"), list[str]()
    votes = list(ledger.votes())
    question = next((name for vote in votes for name in vote.choices), "")
    votes = [vote for vote in votes if question in vote.choices]
    known: dict[str, list[bool]] = defaultdict(list)
    for vote in votes:
        if vote.better is not None:
            known[vote.annotator].append(vote.choices[question] == vote.better)
    reliable = right_of(outcomes(votes, question)) if least_right else {}
    for name in _counted({each.annotator for each in ledger.answers("vote")} - set(out)):
        answered, right = len(known[name]), sum(known[name])
        if least_known and not answered:
            unsaid.append(f"{name}, who answered no question whose answer is known")
        elif least_known and right / answered < least_known:
            out[name] = f"{right} of {answered} known answers right, less than {quantity(least_known, 'rate')}"
        if least_right and name not in reliable:
            unsaid.append(f"{name}, who judged nothing that another judged")
        elif least_right and name not in out and reliable[name][0] < least_right:
            value = quantity(reliable[name][0], "rate")
            out[name] = f"the better one chosen in {value} of cases, less than {quantity(least_right, 'rate')}"
    return out, [each for each in unsaid if each.split(",")[0] not in out]


def _counted(names: Iterable[str]) -> list[str]:
    """Return pseudonyms in the order of their numbers."""
    return sorted(names, key=lambda name: (len(name), name))


def outcomes(votes: Sequence[Vote], question: str) -> Answers:
    """Return what was said of each pair by whom: 0 for its first item, 1 for a tie, 2; of first questions alone."""
    said: dict[str, dict[str, Hashable]] = defaultdict(dict)
    for vote in votes:
        if vote.source in ("random", "active"):
            choice = vote.choices[question]
            said[vote.task][vote.annotator] = 1 if choice in TIES else 2 * int(choice)
    return said


def right_of(answers: Answers) -> dict[str, tuple[float, float, float]]:
    """Return how probably each of those who judged what others judged chooses the truly better one, and its interval.

    By noisy Bradley-Terry, from how far all agree: it takes three people to tell whose fault a disagreement is.
    """
    several = [each for each in answers.items() if len(each[1]) > 1]
    people = sorted({name for _, said in several for name in said})
    votes = [(i, people.index(name), FIRST[it]) for i, (_, said) in enumerate(several) for name, it in said.items()]
    if not votes:
        return {}
    pair, person, first = (torch.tensor(column) for column in zip(*votes, strict=True))
    fit = fit_people(pair, person, first.double(), len(people))
    return {name: fit.right(i) for i, name in enumerate(people)}
