"""The ledger of a collection: what is asked, who was asked what, and everything that was answered."""

from __future__ import annotations

import hashlib
import json
import random
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection, Table, insert, select

from limner.core.errors import UserError
from limner.feedback import tables
from limner.feedback.answer import Answer, Type, placed
from limner.feedback.board import Annotator, Assignment, Board
from limner.feedback.choosing import Asking, choose
from limner.feedback.task import OVERALL, Item, Kind, Task, Vote


@dataclass(frozen=True)
class Answered:
    """What somebody answered to a question; places in `payload` are those of the task's items."""

    task: Task
    assignment: Assignment
    annotator: str
    payload: Mapping[str, Any]
    latency_ms: int
    time: float


class Ledger:
    """What is kept in a database, and a picture of it in memory from which questions are chosen.

    One process asks at a time (`alone`); `new`: one that is not there is made. An answer is on the disk before it is
    acknowledged; nothing is ever changed or removed: to take an answer back is another event, which supersedes it.
    """

    def __init__(
        self,
        url: str,
        asking: Asking | None = None,
        questions: Sequence[str] = (OVERALL,),
        clock: Callable[[], float] = time.time,
        new: bool = True,
    ) -> None:
        self.engine = tables.opened(url, new)
        self.asking, self.questions, self.clock = asking or Asking(), tuple(questions), clock
        self.board = self._read()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Ask from it alone, and on from how it stands now. Raises UserError while another process does."""
        with tables.alone(self.engine):
            self.board = self._read()
            yield

    def add(self, items: Iterable[Item], tasks: Iterable[Task]) -> None:
        """Keep what may be asked; what is there already stays."""
        shown, asked = list[dict[str, Any]](), list[dict[str, Any]]()
        for each in items:
            facts = json.dumps(dict(each.facts), sort_keys=True, default=str)
            row = {"id": each.id, "sha256": each.sha256, "path": str(each.path), "facts": facts}
            shown.append(row | {"prompt": each.prompt, "source": each.source})
        for one in tasks:
            items_of = json.dumps(one.items)
            asked.append(
                {"id": one.id, "kind": one.kind, "prompt": one.prompt, "better": one.better, "items": items_of}
            )
        with self.engine.begin() as connection:
            _keep(connection, tables.item, shown)
            _keep(connection, tables.task, asked)
        self.board = self._read()

    def invite(self, count: int) -> list[tuple[str, str]]:
        """Return the pseudonyms and tokens of new annotators; of a token only its hash is kept."""
        invited = []
        with self.engine.begin() as connection:
            have = len(connection.execute(select(tables.annotator.c.id)).all())
            for n in range(have + 1, have + 1 + count):
                token = secrets.token_urlsafe(24)
                row = {"pseudonym": f"annotator-{n}", "token_hash": _hash(token)}
                connection.execute(insert(tables.annotator).values(row))
                invited.append((row["pseudonym"], token))
        self.board = self._read()
        return invited

    def who(self, token: str) -> Annotator | None:
        """Return whose token it is, or None."""
        return self.board.annotators.get(_hash(token))

    def next(self, annotator: Annotator, count: int) -> list[Assignment]:
        """Return up to `count` questions: what the annotator has not answered yet, then new ones."""
        waiting = [a for a in self.board.given[annotator.id] if a.id not in self.board.answered]
        try:
            with self.engine.begin() as connection:
                while len(waiting) < count:
                    assignment = self._ask(connection, annotator)
                    if assignment is None:
                        break
                    waiting.append(assignment)
        except Exception:
            self.board = self._read()  # what was not kept was not asked
            raise
        return waiting[:count]

    def record(self, annotator: Annotator, answer: Answer) -> str:
        """Keep an answer, and return its key: it is on the disk. The same key again changes nothing.

        Raises UserError for a question that is not this annotator's or was answered, and for a vote of another form.
        """
        board = self.board
        if answer.key in board.keys:
            if board.keys[answer.key] != annotator.id:
                raise UserError("key: somebody else's")
            return answer.key
        assignment = board.assignments.get(answer.assignment)
        if assignment is None or assignment.annotator != annotator.id:
            raise UserError(f"assignment {answer.assignment}: not yours")
        live = board.answered.get(assignment.id)
        supersedes, payload = None, dict[str, Any]()
        if answer.type == "undo":
            if live is None:
                raise UserError(f"assignment {assignment.id}: nothing to take back")
            supersedes = live[0]
        elif live is not None:
            raise UserError(f"assignment {assignment.id}: answered already; take that back first")
        elif answer.type == "vote":
            payload = placed(answer.payload, board.tasks[assignment.task].kind, self.questions, assignment.order)
            payload["shown"] = dict(answer.payload)
        else:
            payload = {"text": str(answer.payload.get("text", ""))[:2000]}
        row = {
            "time": self.clock(),
            "assignment": assignment.id,
            "annotator": annotator.id,
            "type": answer.type,
            "supersedes": supersedes,
            "payload": json.dumps(payload),
            "latency_ms": answer.latency_ms,
            "dwell_ms": answer.dwell_ms,
            "viewport": answer.viewport,
            "key": answer.key,
        }
        with self.engine.begin() as connection:
            found = connection.execute(insert(tables.events).values(row)).inserted_primary_key
        assert found is not None
        board.apply(found[0], row)
        return answer.key

    def progress(self, annotator: Annotator) -> dict[str, int]:
        """Return how many questions the annotator answered, and how many pairs are open to anybody."""
        done = sum(a.id in self.board.answered for a in self.board.given[annotator.id])
        return {"done": done, "total": max(done, sum(task.better is None for task in self.board.tasks.values()))}

    def votes(self) -> Iterator[Vote]:
        """Yield every answer to a pair that was not taken back, in order."""
        for each in self.answers("vote"):
            if each.task.kind == "pair":
                yield Vote(
                    each.task.id,
                    each.annotator,
                    cast(tuple[str, str], each.task.items),
                    each.payload["choices"],
                    each.assignment.order[0],
                    each.assignment.source,
                    each.assignment.propensity,
                    each.task.better,
                    each.latency_ms,
                    each.time,
                    each.payload,
                )

    def orders(self) -> Iterator[tuple[str, ...]]:
        """Yield every ranking that was not taken back: ids of items, the best first."""
        for each in self.answers("vote"):
            if each.task.kind == "rank" and each.assignment.source != "repeat":
                yield tuple(each.task.items[place] for place in each.payload["order"])

    def answers(self, type: Type) -> Iterator[Answered]:
        """Yield every answer of a type, to whatever kind of question, that was not taken back, in order."""
        pseudonyms = {a.id: a.pseudonym for a in self.board.annotators.values()}
        rows, superseded = tables.events, set(self.board.superseded)
        with self.engine.connect() as connection:
            query = select(rows).where(rows.c.type == type).order_by(rows.c.id)
            for row in connection.execute(query).mappings():
                assignment = self.board.assignments[row["assignment"]]
                if row["id"] not in superseded:
                    task, name = self.board.tasks[assignment.task], pseudonyms[row["annotator"]]
                    payload = json.loads(row["payload"])
                    yield Answered(task, assignment, name, payload, row["latency_ms"], row["time"])

    def _ask(self, connection: Connection, annotator: Annotator) -> Assignment | None:
        board = self.board
        mine = board.given[annotator.id]
        seen = {a.task for a in mine}
        answered = [a.task for a in mine if board.answered.get(a.id, (0, ""))[1] == "vote" and a.source != "repeat"]
        repeated = {a.task for a in mine if a.source == "repeat"}
        rng = random.Random(f"{annotator.pseudonym} {len(mine)}")
        found = choose(
            list(board.tasks.values()), board.tallies(self.clock()), seen, answered, repeated, self.asking, rng
        )
        if found is None:
            return None
        task, source, propensity = found
        order = list(range(len(task.items)))
        if source == "repeat":
            order = list(next(a.order for a in mine if a.task == task.id))[::-1]
        else:
            rng.shuffle(order)
        until = self.clock() + self.asking.lease_seconds
        row = {
            "task": task.id,
            "annotator": annotator.id,
            "source": source,
            "propensity": propensity,
            "order": json.dumps(order),
            "leased_until": until,
        }
        made = connection.execute(insert(tables.assignment).values(row)).inserted_primary_key
        assert made is not None
        assignment = Assignment(made[0], task.id, annotator.id, source, propensity, tuple(order))
        board.take(assignment, until)
        return assignment

    def _read(self) -> Board:
        """Return the picture of what the database holds."""
        board = Board()
        with self.engine.connect() as connection:
            for row in connection.execute(select(tables.item)).mappings():
                facts = json.loads(row["facts"])
                item = Item(Path(row["path"]), row["prompt"], row["source"], row["sha256"], facts)
                board.items[row["id"]] = item
            for row in connection.execute(select(tables.task)).mappings():
                ids = tuple(json.loads(row["items"]))
                board.tasks[row["id"]] = Task(cast(Kind, row["kind"]), row["prompt"], ids, row["better"])
            for row in connection.execute(select(tables.annotator)).mappings():
                board.annotators[row["token_hash"]] = Annotator(row["id"], row["pseudonym"])
            for row in connection.execute(select(tables.assignment).order_by(tables.assignment.c.id)).mappings():
                order = tuple(json.loads(row["order"]))
                asked = Assignment(row["id"], row["task"], row["annotator"], row["source"], row["propensity"], order)
                board.take(asked, row["leased_until"])
            for row in connection.execute(select(tables.events).order_by(tables.events.c.id)).mappings():
                board.apply(row["id"], dict(row))
        return board


def _keep(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add those rows whose id is not there yet, the first of an id, all at once."""
    have = set(connection.execute(select(table.c.id)).scalars())
    new = {row["id"]: dict(row) for row in reversed(rows) if row["id"] not in have}
    if new:
        connection.execute(insert(table), list(new.values())[::-1])


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
