"""How a collection stands: how much was answered, and how far it is to be trusted."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from scipy.stats import binomtest

from limner.feedback.ledger import Answered, Ledger
from limner.feedback.task import Vote

HASTY_MS = 400
"""Faster than this nobody has looked at two pictures."""
HOUR = 3600.0
MOST_REPORTED = 100
"""Of what was reported, so many are told."""


def standing(ledger: Ledger) -> dict[str, Any]:
    """Return counts and checks of everybody together ("all") and of each annotator.

    votes: answers of every kind; what follows is of pairs. gold: the share of questions with a known answer that were
    answered so. repeats: the share of repeated ones answered as before. left: the share of choices for the left side,
    with the p-value of a fair coin. agreement: over pairs that several judged, the share of equal answers among all
    pairs of answers. last_hour: answers of every kind in the hour before now. reported: what somebody called unsafe or
    broken, and why.
    """
    question = ledger.questions[0]
    votes = list(ledger.votes())
    by_annotator: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        by_annotator[vote.annotator].append(vote)
    answers, now = list(ledger.answers("vote")), ledger.clock()
    given = Counter(each.annotator for each in answers)
    people = {name: checks(by_annotator[name], question) | {"votes": given[name]} for name in sorted(given)}
    everybody = checks(votes, question) | {"votes": len(answers), "agreement": agreement(votes, question)}
    pairs = [task for task in ledger.board.tasks.values() if task.better is None]
    judged = {each.task.id for each in answers if each.task.better is None}
    reported = [
        {"prompt": each.task.prompt, "by": each.annotator, "text": each.payload["text"], "media": _media(ledger, each)}
        for each in ledger.answers("flag")
    ]
    return {
        "pairs": len(pairs),
        "judged": len(judged),
        "events": len(ledger.board.keys),
        "invited": len(ledger.board.annotators),
        "last_hour": sum(now - each.time < HOUR for each in answers),
        "reported": reported[-MOST_REPORTED:],
        "all": everybody,
        "annotators": people,
    }


def checks(votes: Sequence[Vote], question: str) -> dict[str, Any]:
    """Return counts and shares over those votes that answer a question; None where nothing can be said."""
    votes = [vote for vote in votes if question in vote.choices]
    gold = [vote.choices[question] == vote.better for vote in votes if vote.better is not None]
    sides = [vote.choices[question] == vote.left for vote in votes if vote.choices[question] in (0, 1)]
    first = {(v.annotator, v.task): v.choices[question] for v in votes if v.source != "repeat"}
    again = [v.choices[question] == first.get((v.annotator, v.task)) for v in votes if v.source == "repeat"]
    return {
        "votes": len(votes),
        "gold": share(gold),
        "repeats": share(again),
        "left": share(sides),
        "left_p": float(binomtest(sum(sides), len(sides)).pvalue) if sides else None,
        "seconds": median(vote.latency_ms for vote in votes) / 1000 if votes else None,
        "hasty": share([vote.latency_ms < HASTY_MS for vote in votes]),
    }


def _media(ledger: Ledger, each: Answered) -> list[str]:
    return [str(ledger.board.items[id].path) for id in each.task.items]


def agreement(votes: Sequence[Vote], question: str) -> float | None:
    """Return the share of equal answers among all pairs of answers to one question, over all questions."""
    answers: dict[str, Mapping[str, int | str]] = defaultdict(dict)
    for vote in votes:
        if vote.source != "repeat" and vote.better is None and question in vote.choices:
            answers[vote.task] = {**answers[vote.task], vote.annotator: vote.choices[question]}
    equal = total = 0
    for said in answers.values():
        values = list(said.values())
        equal += sum(values[i] == values[j] for i in range(len(values)) for j in range(i))
        total += len(values) * (len(values) - 1) // 2
    return equal / total if total else None


def share(yes: Sequence[bool]) -> float | None:
    """Return the share of true ones, or None of none."""
    return sum(yes) / len(yes) if yes else None
