"""What pages tell people to type, and `limner annotate` as they start it: asked over HTTP, and stopped."""

from __future__ import annotations

import io
import re
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette
from uvicorn import Server

from limner.cli import main
from limner.serve.door import Door
from limner.serve.host import server

ROOT = Path(__file__).parents[2]
BLOCKS = re.compile(r"```(?:sh|bash)\n(.*?)```", re.S)
Chooses = Callable[[float, float], str]
"""What somebody answers, by how bright the left and the right picture are."""


def typed(page: str, head: str = "") -> list[list[str]]:
    """Return what is typed after `limner` in each command of a page's blocks of shell, in order; of one chapter."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if head:
        text = text.split(f"\n{head}\n")[1].split("\n## ")[0]
    lines = [line for block in BLOCKS.findall(text) for line in block.splitlines()]
    commands = [words for words in (shlex.split(line, comments=True) for line in lines) if words]
    assert all(words[0] == "limner" for words in commands), commands
    return [words[1:] for words in commands]


def brighter(left: float, right: float) -> str:
    """Answer as who likes what is bright."""
    return "tie_good" if left == right else "left" if left > right else "right"


def darker(left: float, right: float) -> str:
    """Answer as who likes what is dark."""
    return brighter(-left, -right)


@dataclass(frozen=True)
class Asking:
    """The page of `limner annotate`, while it serves."""

    said: str
    url: str
    tokens: Sequence[str]
    admin: str

    def answer(self, token: str, chooses: Chooses, most: int = 10**6) -> int:
        """Answer by somebody's link until nothing is left, or `most` questions; return how many."""
        done = 0
        with httpx2.Client(base_url=self.url, headers={"Authorization": f"Bearer {token}"}) as client:
            while done < most:
                given = client.get(f"/api/next?count={min(8, most - done)}").json()["assignments"]
                if not given:
                    break
                events = []
                for each in given:
                    pictures = [client.get(f"/api/media/{each['id']}/{place}").content for place in (0, 1)]
                    levels = [float(np.asarray(Image.open(io.BytesIO(one)).convert("L")).mean()) for one in pictures]
                    payload = {"choices": {"overall": chooses(levels[0], levels[1])}}
                    event = {"key": f"{token[:8].replace('_', '-')}-{each['id']}", "assignment": each["id"]}
                    events.append(event | {"type": "vote", "payload": payload, "latency_ms": 900, "dwell_ms": 900})
                receipts = client.post("/api/events", json=events).json()["receipts"]
                assert all(receipt["ok"] for receipt in receipts), receipts
                done += len(events)
        return done


@contextmanager
def annotating(
    words: Sequence[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Asking]:
    """Serve a command in a thread, at any free port, till the block ends; it must then return as if Ctrl-C ended it."""
    made, codes = list[Server](), list[int]()

    def kept(application: Starlette, door: Door) -> Server:
        made.append(server(application, door))
        return made[-1]

    monkeypatch.setattr("limner.annotate.server", kept)
    command = [*words, "--port", "0"]
    thread = threading.Thread(target=lambda: codes.append(main(command)), daemon=True)
    thread.start()
    said, end = "", time.monotonic() + 120
    while "(Ctrl-C ends it)" not in said or not made:
        assert thread.is_alive() and time.monotonic() < end, (words, said, codes)
        time.sleep(0.02)
        said += capsys.readouterr().out
    links = re.findall(r"annotator-\d+: (http://[^/]+)/#(\S+)", said)
    admin = re.findall(r"/admin#(\S+)", said)
    try:
        yield Asking(said, links[0][0], [token for _, token in links], admin[0])
    finally:
        made[-1].should_exit = True
        thread.join(60)
    assert codes == [0], (words, codes)
