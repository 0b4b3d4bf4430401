"""`kill -9` of the host while people vote: what was acknowledged is there, and nothing is there twice."""

import http.client
import json
import multiprocessing
import os
import random
import signal
import threading
import time
from collections import Counter
from typing import Any

from feedback.collection import ledger_of
from feedback.test_desk import ADMIN, said
from limner.feedback.choosing import Asking
from limner.feedback.desk import app
from limner.feedback.ledger import Ledger
from limner.serve.door import Door
from limner.serve.host import listen, server

FORK = multiprocessing.get_context("fork")  # what is imported already need not be again
ASKING = {"least": 8, "most": 8, "gold": 0.0, "repeat": 0.0}
KILLS, PEOPLE, PATIENCE = 8, 6, 60.0


def serve(url, told):
    ledger = Ledger(url, Asking(**ASKING))
    with listen("127.0.0.1", 0, ADMIN) as listener:
        told.send(listener.getsockname()[1])
        server(app(ledger, ADMIN), Door(places=2048)).run(sockets=[listener])


class Voter:
    """Somebody's browser: it keeps a vote, and sends it again under the same key, until it is acknowledged."""

    def __init__(self, token, seed):
        self.headers = {"Authorization": f"Bearer {token}"}
        self.rng, self.token = random.Random(seed), token
        self.waiting: dict[str, Any] | None = None
        self.acknowledged: dict[str, dict[str, Any]] = {}
        self.tries: Counter[str] = Counter()

    def ask(self, port, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, self.headers)
            reply = connection.getresponse()
            assert reply.status == 200
            return json.loads(reply.read())
        finally:
            connection.close()

    def vote(self, port):
        """Answer the next question, or send again what was not acknowledged."""
        if self.waiting is None:
            [given] = self.ask(port, "GET", "/api/next")["assignments"]
            key = f"vote-{self.rng.randrange(16**12):012x}"
            self.waiting = said(given["id"], self.rng.choice(["left", "right", "tie_bad"]), key)
        self.tries[self.waiting["key"]] += 1
        [receipt] = self.ask(port, "POST", "/api/events", json.dumps([self.waiting]))["receipts"]
        assert receipt == {"key": self.waiting["key"], "ok": True}
        self.acknowledged[receipt["key"]] = self.waiting
        self.waiting = None

    def votes(self, port, done):
        try:
            while not done.is_set():
                self.vote(port)
        except (OSError, http.client.HTTPException, ValueError):
            pass  # the host is gone, perhaps in the middle of what it said


def test_a_host_that_is_killed_again_and_again_loses_no_acknowledged_vote_and_counts_none_twice(tmp_path):
    ledger = ledger_of(tmp_path, 120, **ASKING)
    url = str(ledger.engine.url)
    voters = [Voter(token, seed) for seed, (_, token) in enumerate(ledger.invite(PEOPLE))]
    ledger.engine.dispose()
    rng, resent = random.Random(0), 0
    for _ in range(KILLS):
        heard, told = FORK.Pipe(duplex=False)
        host = FORK.Process(target=serve, args=(url, told), daemon=True)
        host.start()
        assert heard.poll(PATIENCE)
        port, done = heard.recv(), threading.Event()
        before = sum(len(voter.acknowledged) for voter in voters)
        threads = [threading.Thread(target=voter.votes, args=(port, done)) for voter in voters]
        for thread in threads:
            thread.start()
        least, end = rng.randrange(1, 30), time.monotonic() + PATIENCE
        while sum(len(voter.acknowledged) for voter in voters) < before + least:
            assert time.monotonic() < end and host.is_alive()
            time.sleep(0.001)
        time.sleep(rng.random() * 0.05)
        assert host.pid is not None
        os.kill(host.pid, signal.SIGKILL)
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        host.join(PATIENCE)
        assert host.exitcode == -signal.SIGKILL
        kept = Ledger(url).board.keys
        assert {key for voter in voters for key in voter.acknowledged} <= set(kept)
        resent += sum(voter.waiting is not None for voter in voters)
    heard, told = FORK.Pipe(duplex=False)
    host = FORK.Process(target=serve, args=(url, told), daemon=True)
    host.start()
    port = heard.recv()
    for voter in voters:
        if voter.waiting is not None:
            voter.vote(port)
    host.kill()
    host.join(PATIENCE)
    again = Ledger(url)
    all_said = {key: event for voter in voters for key, event in voter.acknowledged.items()}
    assert set(again.board.keys) == set(all_said) and len(list(again.votes())) == len(all_said) >= KILLS
    assert resent and max(max(voter.tries.values()) for voter in voters) > 1  # a kill came before an answer was heard
    answered = {assignment: key for key, assignment in ((key, event["assignment"]) for key, event in all_said.items())}
    assert len(answered) == len(all_said)  # no question was answered twice
    sides = {"left": 0, "right": 1}
    wanted: Counter[tuple[str, int | str]] = Counter()
    for event in all_said.values():
        assignment, choice = again.board.assignments[event["assignment"]], event["payload"]["choices"]["overall"]
        wanted[assignment.task, assignment.order[sides[choice]] if choice in sides else choice] += 1
    assert Counter((vote.task, vote.choices["overall"]) for vote in again.votes()) == wanted
    assert max(Counter((vote.task, vote.annotator) for vote in again.votes()).values()) == 1
