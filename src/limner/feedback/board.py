"""A picture in memory of what a ledger holds, from which the next question is chosen."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from limner.feedback.choosing import Tally
from limner.feedback.task import Item, Source, Task


@dataclass(frozen=True)
class Assignment:
    """A question in somebody's hands: `order[i]` is the place in the task's items of what is shown i-th."""

    id: int
    task: str
    annotator: int
    source: Source
    propensity: float
    order: tuple[int, ...]


@dataclass(frozen=True)
class Annotator:
    """Somebody who was invited: known by a pseudonym and the hash of a token, and by nothing else."""

    id: int
    pseudonym: str


@dataclass
class Board:
    """What there is, who was asked what, and how each pair stands."""

    items: dict[str, Item] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    annotators: dict[str, Annotator] = field(default_factory=dict)
    """By the hash of the token."""
    assignments: dict[int, Assignment] = field(default_factory=dict)
    given: dict[int, list[Assignment]] = field(default_factory=lambda: defaultdict(list))
    """What each annotator was asked, in order."""
    answered: dict[int, tuple[int, str]] = field(default_factory=dict)
    """The event that answers an assignment now, and its type."""
    superseded: set[int] = field(default_factory=set)
    """Events that were taken back."""
    keys: dict[str, int] = field(default_factory=dict)
    """Whose event has a key."""
    _tally: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    _leases: deque[tuple[float, Assignment]] = field(default_factory=deque)
    """Until when what was given out is held, in that order."""
    _held: set[int] = field(default_factory=set)
    _counted: dict[int, tuple[float, float]] = field(default_factory=dict)

    def tallies(self, now: float) -> Mapping[str, Tally]:
        """Return the votes of each pair, and in how many hands it is; who holds it too long has lost it."""
        while self._leases and self._leases[0][0] < now:
            self._release(self._leases.popleft()[1])
        return self._tally

    def take(self, assignment: Assignment, until: float) -> None:
        """Put a question in somebody's hands."""
        self.assignments[assignment.id] = assignment
        self.given[assignment.annotator].append(assignment)
        self._leases.append((until, assignment))
        self._held.add(assignment.id)
        self._tally[assignment.task].leases += 1

    def apply(self, id: int, row: Mapping[str, Any]) -> None:
        """Take one event into the picture."""
        assignment = self.assignments[row["assignment"]]
        tally = self._tally[assignment.task]
        self.keys[row["key"]] = row["annotator"]
        self._release(assignment)
        if row["type"] == "undo":
            self.superseded.add(row["supersedes"])
            self.answered.pop(assignment.id, None)
            first, second = self._counted.pop(assignment.id, (0.0, 0.0))
            tally.first, tally.second = tally.first - first, tally.second - second
            return
        self.answered[assignment.id] = (id, row["type"])
        if row["type"] == "vote" and assignment.source != "repeat":
            # a rating or a ranking prefers no side: it counts as a tie does, and only how many there are settles it
            choice = next(iter(json.loads(row["payload"]).get("choices", {"": None}).values()))
            first, second = {0: (1.0, 0.0), 1: (0.0, 1.0)}.get(choice, (0.5, 0.5))
            self._counted[assignment.id] = first, second
            tally.first, tally.second = tally.first + first, tally.second + second

    def _release(self, assignment: Assignment) -> None:
        if assignment.id in self._held:
            self._held.remove(assignment.id)
            self._tally[assignment.task].leases -= 1
