"""Clients that connect and say nothing, or little, keep nobody out. All on loopback, and few."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import torch

from limner.core.media import Images
from limner.core.types import Prompt
from limner.rewards.jpeg_size import jpeg_size
from limner.rewards.remote import Remote
from limner.serve.app import app
from limner.serve.door import Door
from limner.serve.host import listen, server

MEDIA, PROMPTS = Images(torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))), [Prompt("a"), Prompt("b")]
HEAD = b"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Type: application/vnd.reward.v1+safetensors\r\n"


@contextlib.contextmanager
def behind(door: Door) -> Iterator[tuple[str, int]]:
    """Host a reward behind a door; gives its address."""
    with listen("127.0.0.1", 0, "") as listener:
        host = server(app(jpeg_size, "jpeg_size"), door)
        thread = threading.Thread(target=host.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            host.should_exit = True
            thread.join(10)
        assert not thread.is_alive()


def judged(place: tuple[str, int]) -> bool:
    return bool(Remote(url=f"http://{place[0]}:{place[1]}", tries=1, timeout=5)(MEDIA, PROMPTS).valid.all())


def ended(client: socket.socket) -> float:
    """Return after how many seconds the other side ended a connection that says nothing more."""
    start = time.monotonic()
    client.settimeout(10)
    with contextlib.suppress(ConnectionResetError):
        while client.recv(65536):
            pass
    return time.monotonic() - start


@pytest.mark.parametrize("said", [b"", b"P", HEAD], ids=["nothing", "a letter", "half a head"])
def test_more_silent_connections_than_places_keep_nobody_out(said: bytes) -> None:
    with behind(Door(places=4)) as place, contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(place, timeout=5)) for _ in range(12)]
        for client in silent:
            with contextlib.suppress(OSError):  # it has given way already
                client.sendall(said)
        start = time.monotonic()
        assert judged(place) and judged(place) and time.monotonic() - start < 5


def test_requests_under_way_do_not_give_way() -> None:
    with behind(Door(places=2)) as place, contextlib.ExitStack() as stack:
        busy = [stack.enter_context(socket.create_connection(place, timeout=5)) for _ in range(2)]
        for client in busy:
            client.sendall(HEAD + b"Content-Length: 100\r\n\r\nx")
        time.sleep(0.1)  # both heads have been read
        with socket.create_connection(place, timeout=5) as late:
            assert ended(late) < 2
        for client in busy:
            client.sendall(b"y" * 99)
            assert client.recv(12) == b"HTTP/1.1 400"


def test_a_head_has_its_time_however_it_drips() -> None:
    with behind(Door(head_seconds=0.3)) as place, socket.create_connection(place, timeout=5) as client:
        start = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - start < 5:
                client.sendall(b"x")
                time.sleep(0.02)
        assert 0.25 < time.monotonic() - start < 3


def test_the_second_request_of_a_connection_is_not_waited_for() -> None:
    with behind(Door()) as place, socket.create_connection(place, timeout=5) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert ended(client) < 2


def test_a_life_has_an_end() -> None:
    with behind(Door(life_seconds=0.3)) as place, socket.create_connection(place, timeout=5) as client:
        client.sendall(HEAD + b"Content-Length: 100\r\n\r\n")
        assert 0.2 < ended(client) < 3


def test_there_is_a_door() -> None:
    door = Door()
    assert door.places <= 256 and door.head_seconds <= 10 and server(app(jpeg_size, "j")).config.ws == "none"
