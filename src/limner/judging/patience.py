"""How long a judge elsewhere is asked again: the one loop of all of them."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from typing import TypeVar

from limner.core.errors import LimnerError
from limner.judging.exchange import Again, Reply

T = TypeVar("T")

BACKOFF_SECONDS = 0.5
PASSING = (408, 429)
"""Statuses besides 5xx that may be otherwise a little later."""
_JITTER = random.Random()  # not the global one, whose state belongs to the user


class GaveUp(LimnerError):
    """No answer after `tries`, for the reason that the last of them had."""

    def __init__(self, reason: str, tries: int) -> None:
        super().__init__(reason)
        self.tries = tries


def persist(once: Callable[[], T], tries: int, deadline: float = math.inf, longest: float = math.inf) -> tuple[T, int]:
    """Return what `once` returns, asked again as long as it raises Again, and how often it was asked.

    Between tries it waits as long as the server asks for, and at least a uniformly drawn part of
    BACKOFF_SECONDS x 2^try. It ends with `tries`, where a wait would pass `deadline` (one of time.monotonic()), or
    where a server asks for more than `longest` seconds. Source of the wait: "full jitter", M. Brooker, Exponential
    Backoff And Jitter (2015). Raises GaveUp; whatever else `once` raises passes through.
    """
    tried = 1
    while True:
        try:
            return once(), tried
        except Again as again:
            wait = max(again.wait, _JITTER.uniform(0, BACKOFF_SECONDS * 2**tried))
            if tried == tries or again.wait > longest or time.monotonic() + wait >= deadline:
                raise GaveUp(str(again), tried) from again
        time.sleep(wait)
        tried += 1


def require_final(reply: Reply, said: str) -> None:
    """Raise Again, with what was `said`, for a status that may be otherwise a little later: 408, 429 and 5xx."""
    if reply.status in PASSING or reply.status >= 500:
        raise Again(said, reply.retry_after or 0.0, broken=reply.status != 429)
