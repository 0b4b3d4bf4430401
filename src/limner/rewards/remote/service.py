"""Several servers of one reward: which is asked next, and which rests after failing (a circuit breaker each)."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from limner.core.errors import JudgeFailure, UserError
from limner.judging.exchange import Address, Again

MAX_FAILURES = 3
"""Failures in a row after which a server rests."""
REST_SECONDS = 5.0
"""How long it rests; then one request at a time tries whether it is well."""


@dataclass
class Server:
    """One replica."""

    address: Address
    busy: int = 0
    """Requests in flight."""
    failures: int = 0
    """In a row, up to the last one."""
    rest_until: float = -math.inf

    def open(self, now: float) -> bool:
        """Tell whether it may be asked: it is well, or has rested and nobody is trying it."""
        return self.failures < MAX_FAILURES or (now >= self.rest_until and not self.busy)


class Service:
    """The servers, and what was learned of the reward they host; for use from several threads."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self.servers = [Server(address) for address in addresses]
        self.identity = ""
        """The reward's, once known."""
        self.lost = 0
        """Calls in a row, up to the last one, that left samples unjudged."""
        self._changed = threading.Condition()

    @contextmanager
    def server(self, deadline: float) -> Iterator[Server]:
        """Give the server to ask: the one that failed least of late, and of those the least busy one.

        Any error but UserError, and Again with `broken` False, counts as its failure. Raises JudgeFailure if none may
        be asked before `deadline`.
        """
        server = self._take(deadline)
        well = False
        try:
            yield server
            well = True
        except UserError:
            well = True
            raise
        except Again as again:
            well = not again.broken
            raise
        finally:
            with self._changed:
                server.busy -= 1
                server.failures = 0 if well else server.failures + 1
                server.rest_until = time.monotonic() + REST_SECONDS if not well else -math.inf
                self._changed.notify_all()

    def _take(self, deadline: float) -> Server:
        with self._changed:
            while True:
                now = time.monotonic()
                ready = [server for server in self.servers if server.open(now)]
                if ready:
                    chosen = min(ready, key=lambda server: (server.failures, server.busy))
                    chosen.busy += 1
                    return chosen
                wake = min(server.rest_until for server in self.servers)
                if max(now, wake) >= deadline:
                    names = ", ".join(str(server.address) for server in self.servers)
                    raise JudgeFailure(f"{names} failed {MAX_FAILURES} times in a row, and may not be asked yet")
                self._changed.wait((wake if wake > now else deadline) - now)

    def same(self, identity: str, who: Address) -> None:
        """Remember which reward answers. Raises UserError if it is another one than before, or on another server."""
        with self._changed:
            self.identity = self.identity or identity
            if identity != self.identity:
                raise UserError(
                    f"remote: {who} answers as reward {identity!r:.80}, before it was {self.identity!r:.80}: "
                    "give all servers one reward, settings and version, and start anew"
                )

    def settle(self, lost: bool) -> int:
        """Count a call; return how many in a row, this one included, left samples unjudged."""
        with self._changed:
            self.lost = self.lost + 1 if lost else 0
            return self.lost
