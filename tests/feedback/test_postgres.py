"""The same ledger in PostgreSQL: a real server, if one is installed."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import text

from feedback.collection import two_folders, vote
from feedback.test_desk import bearer, patiently, said
from limner.core.errors import UserError
from limner.feedback.choosing import Asking
from limner.feedback.ledger import Ledger
from limner.feedback.sources import gather

FOUND = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
pytestmark = pytest.mark.skipif(not FOUND, reason="no PostgreSQL is installed (apt-get install postgresql)")


@pytest.fixture
def url(tmp_path):
    """Run a server of its own in a folder, at a socket there; as another user if this is root, whom it refuses."""
    pytest.importorskip("psycopg", reason="psycopg speaks to PostgreSQL")
    folder = Path("/tmp") / f"limner-postgres-{os.getpid()}"  # sockets have short names
    folder.mkdir()
    user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    if user:
        shutil.chown(folder, "postgres")

    def run(*command):
        subprocess.run([*user, FOUND[-1] / command[0], *command[1:]], check=True, capture_output=True, cwd=folder)

    run("initdb", "-D", folder / "data", "-U", "limner", "-A", "trust", "--no-sync")
    options = f"-c listen_addresses='' -c unix_socket_directories={folder}"
    run("pg_ctl", "-D", folder / "data", "-o", options, "-l", folder / "log", "-w", "start")
    try:
        yield f"postgresql+psycopg://limner@/postgres?host={folder}"
    finally:
        run("pg_ctl", "-D", folder / "data", "-m", "immediate", "stop")
        shutil.rmtree(folder)


def test_it_keeps_the_same(tmp_path, url):
    place = two_folders(tmp_path / "set", 12)
    ledgers = [Ledger(where, Asking(most=2)) for where in (url, f"sqlite:///{tmp_path / 'votes.db'}")]
    for ledger in ledgers:
        ledger.add(*gather(place))
        for me in [ledger.who(token) for _, token in ledger.invite(2)]:
            while given := ledger.next(me, 1):
                ledger.record(me, vote(given[0], "left", f"{me.pseudonym}-{given[0].id}"))
        last = ledger.board.given[1][-1]
        first = next(a for a in ledger.board.annotators.values() if a.id == last.annotator)
        ledger.record(first, vote(last, "", "taken-back", "undo"))
    again = [Ledger(str(ledger.engine.url.render_as_string(False)), ledger.asking) for ledger in ledgers]
    kept = [[replace(each, time=0.0) for each in ledger.votes()] for ledger in again]
    assert kept[0] == kept[1] and len(kept[0]) >= 23


SERVER = """
import sys
from limner.feedback.choosing import Asking
from limner.feedback.desk import app
from limner.feedback.ledger import Ledger
from limner.serve.door import Door
from limner.serve.host import listen, server
ledger = Ledger(sys.argv[1], Asking(least=100, most=100, sure=0.0, gold=0.0, repeat=0.0))
with listen("127.0.0.1", int(sys.argv[2]), "the-admins-own-token") as listener, ledger.alone():
    print(listener.getsockname()[1], flush=True)
    server(app(ledger, "the-admins-own-token"), Door(places=2048)).run(sockets=[listener])
"""


def test_a_hundred_annotators_at_once_and_one_kill_lose_no_vote(tmp_path, url):
    """The server is killed amid it, another begins, and the page asks again, with the keys of what it did not hear."""
    ledger = Ledger(url)
    ledger.add(*gather(two_folders(tmp_path / "set", 40)))
    tokens = [token for _, token in ledger.invite(100)]
    begun, given, kept = [], [], []

    def begin(port):
        begun.append(subprocess.Popen([sys.executable, "-c", SERVER, url, str(port)], stdout=subprocess.PIPE))
        return int(begun[-1].stdout.readline())

    async def annotate(client, token):
        for _ in range(3):
            reply = await patiently(client.get, "/api/next?count=2", headers=bearer(token))
            mine = [each["id"] for each in reply.json()["assignments"]]
            given.extend((token, each) for each in mine)
            events = [said(each, "left", f"the-key-{each}") for each in mine]
            reply = await patiently(client.post, "/api/events", headers=bearer(token), json=events)
            assert [receipt["ok"] for receipt in reply.json()["receipts"]] == [True, True]
            kept.extend(event["key"] for event in events)

    async def strike(port):
        while len(kept) < 150:
            await asyncio.sleep(0.02)
        begun[-1].kill()
        begun[-1].wait()
        await asyncio.to_thread(begin, port)

    async def everybody(port):
        limits = httpx2.Limits(max_connections=100)
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", limits=limits, timeout=120) as client:
            await asyncio.gather(strike(port), *(annotate(client, token) for token in tokens))

    try:
        port = begin(0)
        with pytest.raises(UserError, match="another limner annotate asks from there") as error, Ledger(url).alone():
            pass
        assert "\n" not in str(error.value)
        asyncio.run(everybody(port))
    finally:
        for process in begun:
            process.kill()
            process.wait()
            process.stdout.close()
    assert len(begun) == 2 and len(kept) == len(set(kept)) == 600
    again = Ledger(url)
    assert set(again.board.keys) == set(kept) and len(list(again.votes())) == 600
    with ledger.engine.connect() as connection:
        votes = connection.execute(text("select assignment, count(*) from event group by assignment")).all()
        asked = connection.execute(text("select annotator, task, count(*) from assignment group by annotator, task"))
        assert len(votes) == 600 and {row[1] for row in votes} == {1} and {row[2] for row in asked} == {1}
    assert {each for _, each in given} == set(again.board.answered)
    counts = Counter(vote.task for vote in again.votes())
    assert len(counts) == 40 and max(counts.values()) - min(counts.values()) <= 3  # given out evenly
    with Ledger(url).alone():  # a lock ends with its process
        pass
