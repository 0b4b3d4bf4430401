"""The same ledger in PostgreSQL: a real server, if one is installed."""

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from feedback.collection import two_folders, vote
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
