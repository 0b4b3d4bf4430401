"""One HTTP request: a JSON body there, an answer back within a time and a size. No redirects, no proxies."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

MAX_ANSWER = 16 * 2**20
"""Bytes of an answer beyond which it is not read."""
_CHUNK = 2**16


@dataclass(frozen=True)
class Answer:
    """What a server answered, whatever the status."""

    status: int
    body: bytes
    retry_after: str = ""
    """The header of that name."""


def post(url: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Answer:
    """Send `body` and return the answer; a certificate is always verified.

    A redirect is an answer like any other: following it would hand pictures and key to a host nobody named.
    Raises OSError or HTTPException if there is no whole answer within about `timeout_s` seconds, or it is too long.
    """
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    deadline = time.monotonic() + timeout_s
    with contextlib.closing(kind(parts.hostname or "", parts.port, timeout=timeout_s)) as connection:
        connection.request("POST", parts.path, body, {"Content-Type": "application/json", **headers})
        response = connection.getresponse()
        read = bytearray()
        while chunk := response.read1(_CHUNK):
            read += chunk
            if len(read) > MAX_ANSWER:
                raise http.client.HTTPException(f"an answer of more than {MAX_ANSWER >> 20} MiB")
            if time.monotonic() > deadline:
                raise TimeoutError(f"the answer was not complete after {timeout_s:g} s")
        if response.length:  # a connection that was cut reads like the end of the body
            raise http.client.IncompleteRead(bytes(read), response.length)
        return Answer(response.status, bytes(read), response.getheader("Retry-After", ""))


def seconds_to_wait(retry_after: str) -> float | None:
    """Return the seconds that a Retry-After header asks for (a number, or a date), or None if it says nothing usable.

    Source: RFC 9110, section 10.2.3.
    """
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
