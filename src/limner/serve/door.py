"""Who is let in: so many connections at once, each of which must soon say what it wants, and hear it."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

END_OF_HEAD = re.compile(rb"\n\r?\n")


@dataclass
class Door:
    """The connections of one server, and how long they may take.

    When all places are taken, the one that has been silent longest gives way, so that connections without a request
    keep nobody out; if all of them have asked, a new one is closed.
    """

    places: int = 256
    head_seconds: float = 10.0
    """From the connection to the end of a request's head; and how long an answer may lie unread."""
    life_seconds: float = 1800.0
    """From the head to the end, waits for the judge included."""
    inside: dict[Connection, None] = field(default_factory=dict)
    """In order of arrival."""

    def protocol(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> Connection:
        """Return what speaks to one more client; uvicorn calls it as it would call the class of its protocol."""
        return Connection(self, H11Protocol(config, server_state, app_state, _loop))

    def let_in(self, new: Connection) -> bool:
        """Tell whether there is a place, and give it."""
        if len(self.inside) >= self.places:
            silent = next((each for each in self.inside if not each.asked), None)
            if silent is None:
                return False
            del self.inside[silent]
            silent.transport.abort()
        self.inside[new] = None
        return True


class Connection:
    """An asyncio protocol around uvicorn's, which by itself waits for a request's head for ever."""

    transport: asyncio.Transport

    def __init__(self, door: Door, inner: H11Protocol) -> None:
        self.asked = False
        """Whether the head of its request has come."""
        self._door, self._inner = door, inner
        self._timer: asyncio.TimerHandle | None = None
        self._seen = b""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self._inner.connection_made(transport)
        if self._door.let_in(self):
            self._give(self._door.head_seconds)
        else:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        if not self.asked:
            self._seen = self._seen[-3:] + data
            self.asked = END_OF_HEAD.search(self._seen) is not None
            if self.asked:
                self._seen = b""
                self._give(self._door.life_seconds)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        self._inner.eof_received()
        return None

    def pause_writing(self) -> None:
        self._give(self._door.head_seconds)
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._give(self._door.life_seconds)
        self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._door.inside.pop(self, None)
        self._inner.connection_lost(error)

    def _give(self, seconds: float) -> None:
        """Cut the connection so many seconds from now, unless more are given by then."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.transport.abort)
