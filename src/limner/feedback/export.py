"""What people said, as rows: one a pair, in the order of its items, with where it came from."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from limner.core.rng import fixed_share
from limner.feedback.ledger import Ledger
from limner.feedback.task import Vote

HELDOUT_SHARE = 0.2


def lines(ledger: Ledger) -> Iterator[str]:
    """Yield a JSON object for each pair that was judged; gold and repeated questions are left out.

    prompt, media_a, media_b (paths), votes_a, votes_b, ties_good, ties_bad, n, choice ("a", "b", "tie_good", "tie_bad":
    what most said; "" if as many said otherwise), dims (the same counts for each question), annotators (pseudonyms),
    propensity (of each vote), split (by prompt: a hash, so that no prompt is on both sides), and of both items who made
    them.
    """
    votes: dict[str, list[Vote]] = defaultdict(list)
    for vote in ledger.votes():
        if vote.source in ("random", "active"):
            votes[vote.task].append(vote)
    for task_id, cast in votes.items():
        task = ledger.board.tasks[task_id]
        a, b = (ledger.board.items[id] for id in task.items)
        counts = {question: count(cast, question) for question in ledger.questions}
        first = counts[ledger.questions[0]]
        row: dict[str, Any] = {
            "prompt": task.prompt,
            "media_a": str(a.path),
            "media_b": str(b.path),
            "choice": winner(first),
            **first,
            "n": len(cast),
            "dims": counts,
            "annotators": [vote.annotator for vote in cast],
            "propensity": [vote.propensity for vote in cast],
            "split": "heldout" if fixed_share(task.prompt) < HELDOUT_SHARE else "train",
            "source_a": a.source,
            "source_b": b.source,
        }
        yield json.dumps(row, ensure_ascii=False)


def count(votes: list[Vote], question: str) -> dict[str, int]:
    """Return how many said what to a question."""
    said = [vote.choices[question] for vote in votes]
    meanings: dict[str, int | str] = {"votes_a": 0, "votes_b": 1, "ties_good": "tie_good", "ties_bad": "tie_bad"}
    return {name: said.count(choice) for name, choice in meanings.items()}


def winner(counts: dict[str, int]) -> str:
    """Return what most said."""
    names = {"votes_a": "a", "votes_b": "b", "ties_good": "tie_good", "ties_bad": "tie_bad"}
    most = [name for name in names if counts[name] == max(counts.values())]
    return names[most[0]] if len(most) == 1 else ""
