"""Hosts for the tests of judges elsewhere: real ones on loopback, applications in this process, and bad ones."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.applications import Starlette

from limner.core.protocols import Reward
from limner.judging.wire import KINDS, LIMITS, Kinds, Limits
from limner.serve.app import app
from limner.serve.host import listen, server


@contextmanager
def hosted(
    reward: Reward, name: str = "mine", limits: Limits = LIMITS, token: str = "", kinds: Kinds = KINDS
) -> Iterator[str]:
    """Host a reward on a free loopback port; gives its URL."""
    with listen("127.0.0.1", 0, token) as listener:
        host = server(app(reward, name, limits, token, kinds))
        thread = threading.Thread(target=host.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            host.should_exit = True
            thread.join(10)
        assert not thread.is_alive()


@contextmanager
def scripted(answer: Callable[[socket.socket, int], None]) -> Iterator[tuple[str, list[int]]]:
    """Accept connections and leave each to `answer(connection, number)`; gives the URL and the list of the numbers."""
    seen: list[int] = []
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.02)

        def run() -> None:
            while not done.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                seen.append(len(seen))
                threading.Thread(target=one, args=(connection, len(seen) - 1), daemon=True).start()

        def one(connection: socket.socket, number: int) -> None:
            with connection:
                try:
                    answer(connection, number)
                except OSError:
                    return  # the client has left

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", seen
        finally:
            done.set()
            thread.join(10)


def received(connection: socket.socket) -> bytes:
    """Read one request; return its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    while len(body) < int(lines[b"content-length"]):
        body += connection.recv(65536)
    return body


def http(status: int, body: bytes = b"", **headers: str) -> bytes:
    """Return an HTTP answer."""
    extra = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{extra}Connection: close\r\n\r\n".encode() + body


async def call(
    application: Starlette, path: str, body: bytes | list[bytes] = b"", method: str = "POST", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Send one request to an application in this process; return status, headers and body."""
    chunks = body if isinstance(body, list) else [body]
    waiting = [
        {"type": "http.request", "body": chunk, "more_body": i < len(chunks) - 1} for i, chunk in enumerate(chunks)
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    names = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": names,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    await application(scope, receive, send)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, b"".join(part.get("body", b"") for part in sent[1:])
