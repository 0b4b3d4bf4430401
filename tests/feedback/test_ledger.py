import json
import random
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from PIL import Image
from sqlalchemy import Engine, create_engine, make_url, text

from feedback.collection import ledger_of, side_of, vote
from limner.cli import main
from limner.core.errors import UserError
from limner.feedback import tables
from limner.feedback.choosing import Asking
from limner.feedback.export import lines
from limner.feedback.gold import gold, spoil
from limner.feedback.ledger import Ledger
from limner.feedback.sources import gather
from limner.feedback.standing import standing


def people(ledger, count):
    return [ledger.who(token) for _, token in ledger.invite(count)]


def test_votes_are_kept_in_the_order_of_the_items_whatever_the_sides_were(tmp_path):
    ledger = ledger_of(tmp_path, 12, gold=0.0, repeat=0.0)
    [me] = people(ledger, 1)
    sides = []
    for _ in range(12):
        [assignment] = ledger.next(me, 1)
        sides.append(side_of(ledger, assignment, "good"))
        ledger.record(me, vote(assignment, sides[-1]))
    assert not ledger.next(me, 1) and ledger.progress(me) == {"done": 12, "total": 12}
    assert set(sides) == {"left", "right"}
    for line in lines(ledger):
        row = json.loads(line)
        better = row[f"media_{row['choice']}"]
        assert Image.open(better).getpixel((5, 5)) == (200, 200, 200)
        assert (row["votes_a"], row["votes_b"]) in ((0, 1), (1, 0)) and row["n"] == 1 and 0 < row["propensity"][0] <= 1
        assert row["split"] in ("train", "heldout") and row["annotators"] == ["annotator-1"]


def test_an_answer_is_taken_back_by_another_event_and_nothing_is_removed(tmp_path):
    ledger = ledger_of(tmp_path)
    [me] = people(ledger, 1)
    [first] = ledger.next(me, 1)
    ledger.record(me, vote(first, "left"))
    with pytest.raises(UserError, match="answered already"):
        ledger.record(me, vote(first, "right", "another-key"))
    ledger.record(me, vote(first, "", type="undo"))
    assert ledger.next(me, 1) == [first] and not list(ledger.votes())
    ledger.record(me, vote(first, "right", "at-last-1"))
    [kept] = ledger.votes()
    assert kept.choices == {"overall": first.order[1]}
    with pytest.raises(UserError, match="not yours"):
        ledger.record(people(ledger, 1)[0], vote(first, "left", "a-stranger"))
    again = Ledger(str(ledger.engine.url), ledger.asking)
    assert list(again.votes()) == [kept] and again.progress(me) == ledger.progress(me)
    with create_engine(ledger.engine.url).connect() as connection:
        types = [row[0] for row in connection.execute(text("select type from event order by id"))]
    assert types == ["vote", "undo", "vote"]


def test_the_same_key_counts_once_and_is_nobody_elses(tmp_path):
    ledger = ledger_of(tmp_path)
    me, other = people(ledger, 2)
    [assignment] = ledger.next(me, 1)
    for _ in range(3):
        assert ledger.record(me, vote(assignment, "left", "the-same-key")) == "the-same-key"
    assert len(list(ledger.votes())) == 1
    [theirs] = ledger.next(other, 1)
    with pytest.raises(UserError, match="somebody else's"):
        ledger.record(other, vote(theirs, "left", "the-same-key"))


def test_nobody_is_asked_the_same_twice_but_for_repetitions_with_the_sides_swapped(tmp_path):
    ledger = ledger_of(tmp_path, 40, most=3, gold=0.1, repeat=0.2)
    ledger.add(*gold(spoil(list(ledger.board.items.values()), 6), tmp_path / "gold"))
    for me in people(ledger, 3):
        asked = {}
        while given := ledger.next(me, 1):
            [assignment] = given
            if assignment.source == "repeat":
                assert assignment.order == asked[assignment.task][::-1]
            else:
                assert assignment.task not in asked
                asked[assignment.task] = assignment.order
            known = ledger.board.tasks[assignment.task].better
            good = (
                side_of(ledger, assignment, "good") if known is None else ("left", "right")[assignment.order.index(0)]
            )
            ledger.record(me, vote(assignment, good))
    found = standing(ledger)
    assert found["judged"] == found["pairs"] == 40
    assert found["all"]["gold"] == found["all"]["repeats"] == found["all"]["agreement"] == 1.0
    assert found["all"]["left_p"] > 0.001 and found["all"]["hasty"] == 0.0 and found["all"]["seconds"] == 1.5


def test_a_pair_that_is_held_too_long_is_given_to_others_and_a_late_answer_still_counts(tmp_path):
    now = [1000.0]
    ledger = ledger_of(tmp_path, 1, most=1, gold=0.0, repeat=0.0, lease_seconds=60)
    ledger.clock = lambda: now[0]
    me, other = people(ledger, 2)
    [mine] = ledger.next(me, 1)
    now[0] += 61
    [theirs] = ledger.next(other, 1)
    assert theirs.task == mine.task
    ledger.record(other, vote(theirs, "left"))
    ledger.record(me, vote(mine, "left"))
    assert len(list(ledger.votes())) == 2


def test_sequential_votes_stop_where_people_agree(tmp_path):
    """Five agree on a pair after four votes (1/32 < .05); a fair coin takes all seven."""
    ledger = ledger_of(tmp_path, 20, least=3, most=7, gold=0.0, repeat=0.0)
    rng = random.Random(0)
    clear = {task.id for i, task in enumerate(ledger.board.tasks.values()) if i % 2}
    for me in people(ledger, 7):
        while given := ledger.next(me, 1):
            side = side_of(ledger, given[0], "good") if given[0].task in clear else rng.choice(["left", "right"])
            ledger.record(me, vote(given[0], side))
    votes = {task: [vote for vote in ledger.votes() if vote.task == task] for task in ledger.board.tasks}
    assert {len(votes[task]) for task in clear} == {4}
    assert max(len(cast) for cast in votes.values()) == 7


def test_of_two_that_would_ask_the_second_is_refused(tmp_path, monkeypatch, capsys):
    """It knows nothing of what the first one asks; who only reads is let in, and once the first has ended, who asks."""
    ledger = ledger_of(tmp_path)
    [me] = people(ledger, 1)
    with ledger.alone():
        assert main(["annotate", str(tmp_path / "set"), "--database", str(ledger.engine.url), "--port", "0"]) == 2
        said = capsys.readouterr().err
        assert "another limner annotate asks from there" in said and said.count("\n") == 1
        [given] = ledger.next(me, 1)
        ledger.record(me, vote(given, "left"))
        assert main(["feedback", "export", str(tmp_path / "votes.db"), "--out", str(tmp_path / "out.jsonl")]) == 0
    second = Ledger(str(ledger.engine.url), ledger.asking)
    with second.alone():
        assert second.progress(me)["done"] == 1
    other = cast(Engine, SimpleNamespace(url=make_url("mysql://me:secret@x/y"), dialect=SimpleNamespace(name="mysql")))
    with pytest.raises(UserError, match="SQLite or PostgreSQL") as error, tables.alone(other):
        pass
    assert "secret" not in str(error.value)


VOTER = """
import sys
sys.path[:0] = sys.argv[2:]
from feedback.collection import vote
from limner.feedback.ledger import Ledger
ledger = Ledger(sys.argv[1])
me = ledger.who(ledger.invite(1)[0][1])
while given := ledger.next(me, 1):
    print(ledger.record(me, vote(given[0], "left")), flush=True)
"""


def test_a_kill_loses_no_acknowledged_vote(tmp_path):
    ledger = ledger_of(tmp_path, 400)
    url, acknowledged = str(ledger.engine.url), []
    for _ in range(4):
        command = [sys.executable, "-c", VOTER, url, str(Path(__file__).parents[1])]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            acknowledged += [process.stdout.readline().strip() for _ in range(5)]
            time.sleep(0.05)
            process.kill()
            acknowledged += process.stdout.read().split()
    kept = Ledger(url).board.keys
    assert len(acknowledged) >= 20 and set(acknowledged) <= set(kept)


def test_what_cannot_be_opened_is_one_line(tmp_path):
    for url in (f"sqlite:///{tmp_path}/none/votes.db", "nosuch://x", "postgresql+psycopg://a:secret@127.0.0.1:1/b", ""):
        with pytest.raises(UserError, match="cannot be opened") as error:
            Ledger(url, Asking())
        assert "secret" not in str(error.value)


def test_places_without_pairs_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "a", "media_a": "x.png", "media_b": "y.png"}\n')
    (tmp_path / "code.jsonl").write_text('{"prompt": "a", "media_a": "/etc/passwd", "media_b": "y.png"}\n')
    for place, words in (
        ("empty", "nothing to compare"),
        ("none", "no such folder"),
        ("pairs.jsonl", "line 1: no file"),
        ("code.jsonl", "which browsers show"),
    ):
        with pytest.raises(UserError, match=words):
            gather(tmp_path / place)
