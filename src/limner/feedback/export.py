"""What people said, as rows: one a pair, a picture that was rated, or a ranking, with where it came from."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from statistics import fmean
from typing import Any, TypeAlias

from limner.feedback.ledger import Answered, Ledger
from limner.feedback.task import Item, held_out

MOST_RATED = 5
MORE = ("marks", "words", "strength", "text")
"""What may be said beside an answer."""

ExportRow: TypeAlias = dict[str, Any]


def lines(ledger: Ledger, each_vote: bool = False) -> Iterator[str]:
    """Yield each of `rows` as a line of JSON."""
    for row in rows(ledger, each_vote):
        yield json.dumps(row, ensure_ascii=False)


def rows(ledger: Ledger, each_vote: bool = False, without: Collection[str] = ()) -> Iterator[ExportRow]:
    """Yield a row for each pair or picture that was judged, or for `each_vote`; gold and repeated ones are left out.

    What annotators said whose pseudonyms are in `without` does not count.

    Of a pair: prompt, media_a, media_b (paths), votes_a, votes_b, ties_good, ties_bad, choice ("a", "b", "tie_good",
    "tie_bad": what most said; "" if as many said otherwise), dims (the same counts for each question), and of both
    items who made them. Of a picture: prompt, image, label (the mean rating, 0 to 1), ratings (the mean of each
    question, 1 to 5), source. Of a ranking, always a row for each: prompt, images, rank (1 is best), sources. Of all:
    n, annotators (pseudonyms), propensity (of each vote), asked (of each vote: "random", by chance, or "active", since
    it was expected to tell much, and then not for measuring), said (what each added: marks, words of the prompt that
    are not shown, strength, text; seconds), split (by prompt: a hash, so that no prompt is on both sides), and, where
    more is known of the items, facts_a and facts_b, or facts: of a run's pictures the run and the seed.
    """
    answers: dict[tuple[str, int], list[Answered]] = defaultdict(list)
    questions: dict[str, None] = {}  # those of whoever asked, in order; a ledger may be opened with others
    for i, each in enumerate(ledger.answers("vote")):
        questions |= dict.fromkeys(each.payload.get("choices") or each.payload.get("ratings") or ())
        asked = each.assignment.source in ("random", "active") and each.task.better is None
        if asked and each.annotator not in without:
            apart = each_vote or each.task.kind == "rank"
            answers[each.task.id, i if apart else -1].append(each)
    for cast in answers.values():
        task = cast[0].task
        items = [ledger.board.items[id] for id in task.items]
        yield {
            "prompt": task.prompt,
            **_OF[task.kind](items, cast, list(questions)),
            "n": len(cast),
            "annotators": [each.annotator for each in cast],
            "propensity": [each.assignment.propensity for each in cast],
            "asked": [each.assignment.source for each in cast],
            "said": [_more(each) for each in cast],
            "split": "heldout" if held_out(task.prompt) else "train",
        }


def _of_pair(items: Sequence[Item], cast: Sequence[Answered], questions: Sequence[str]) -> ExportRow:
    a, b = items
    said = _by_question(cast, "choices", questions)
    counts = {question: count(choices) for question, choices in said.items()}
    first = next(iter(counts.values()))
    media = {"media_a": str(a.path), "media_b": str(b.path), "choice": winner(first)}
    facts = {f"facts_{side}": dict(item.facts) for side, item in (("a", a), ("b", b)) if a.facts or b.facts}
    return {**media, **first, "dims": counts, "source_a": a.source, "source_b": b.source, **_category(items), **facts}


def _of_rating(items: Sequence[Item], cast: Sequence[Answered], questions: Sequence[str]) -> ExportRow:
    [item] = items
    means = {name: fmean(given) for name, given in _by_question(cast, "ratings", questions).items()}
    label = (next(iter(means.values())) - 1) / (MOST_RATED - 1)
    return {
        "image": str(item.path),
        "label": round(label, 4),
        "ratings": means,
        "source": item.source,
        **_category(items),
        **({"facts": dict(item.facts)} if item.facts else {}),
    }


def _of_ranking(items: Sequence[Item], cast: Sequence[Answered], questions: Sequence[str]) -> ExportRow:
    order = cast[0].payload["order"]
    best = [items[place] for place in order]
    named = {"images": [str(item.path) for item in best], "rank": list(range(1, len(best) + 1))}
    facts = {"facts": [dict(item.facts) for item in best]} if any(item.facts for item in best) else {}
    return {**named, "sources": [item.source for item in best], **_category(items), **facts}


def _by_question(cast: Sequence[Answered], kind: str, questions: Sequence[str]) -> dict[str, list[Any]]:
    """Return what was answered to each question that was asked of these."""
    found = {name: [each.payload[kind][name] for each in cast if name in each.payload[kind]] for name in questions}
    return {name: answers for name, answers in found.items() if answers}


_OF = {"pair": _of_pair, "rate": _of_rating, "rank": _of_ranking}


def _category(items: Sequence[Item]) -> ExportRow:
    found = items[0].facts.get("category")
    return {"category": str(found)} if found else {}


def _more(each: Answered) -> ExportRow:
    words = each.task.prompt.split()
    said = {name: each.payload[name] for name in MORE if name in each.payload}
    if "words" in said:
        said["words"] = [words[place] for place in said["words"] if place < len(words)]
    return said | {"seconds": each.latency_ms / 1000}


def count(said: Sequence[int | str]) -> dict[str, int]:
    """Return how many answers say what."""
    meanings: dict[str, int | str] = {"votes_a": 0, "votes_b": 1, "ties_good": "tie_good", "ties_bad": "tie_bad"}
    return {name: list(said).count(choice) for name, choice in meanings.items()}


def winner(counts: dict[str, int]) -> str:
    """Return what most said."""
    names = {"votes_a": "a", "votes_b": "b", "ties_good": "tie_good", "ties_bad": "tie_bad"}
    most = [name for name in names if counts[name] == max(counts.values())]
    return names[most[0]] if len(most) == 1 else ""
