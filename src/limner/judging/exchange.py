"""One HTTP exchange within a deadline and a size. No redirects, no proxies; certificates are verified."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import logging
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from limner.core.errors import LimnerError, UserError

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
MAX_ANSWER = 16 * 2**20
"""Bytes of an answer beyond which it is not read."""


class Again(LimnerError):
    """No answer, but another try may have one, after at least `wait` seconds; `broken` counts against the server."""

    def __init__(self, message: str, wait: float = 0.0, broken: bool = True) -> None:
        super().__init__(message)
        self.wait, self.broken = wait, broken


class Late(LimnerError):
    """The deadline passed."""


@dataclass(frozen=True)
class Address:
    """Where a server listens; `path` has no slash at its end."""

    secure: bool
    host: str
    port: int | None
    path: str

    def __str__(self) -> str:
        port = "" if self.port is None else f":{self.port}"
        return f"{'https' if self.secure else 'http'}://{self.host}{port}{self.path}"


@dataclass(frozen=True)
class Reply:
    """What a server answered, whatever the status."""

    status: int
    body: bytes
    retry_after: float | None = None
    """Seconds to wait before asking again, None if it names none."""


def address(url: str, who: str) -> Address:
    """Return the address in a URL. Raises UserError, in the name of `who`, if it is not http(s)://HOST[:PORT][/PATH].

    A user, a password or a query is refused, and not repeated: it may be a secret.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    plain = host and parts.scheme in ("http", "https") and "@" not in parts.netloc
    if not plain or parts.query or parts.fragment or not url.isascii() or not url.isprintable():
        got = "which this one has" if "@" in url or "?" in url else f"got {url!r}"
        raise UserError(f"{who}: url must be like http://127.0.0.1:8000, without user, password or query, {got}")
    return Address(parts.scheme == "https", host, port, parts.path.rstrip("/"))


def exchange(to: Address, path: str, body: bytes, headers: Mapping[str, str], deadline: float) -> Reply:
    """Post `body` and return the whole answer; `deadline` is one of time.monotonic().

    A thread cuts the connection at the deadline, so that a server which sends a byte now and then gains nothing.
    Raises Again if the connection fails, Late at the deadline.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise Late(f"no time was left to ask {to}")
    kind = http.client.HTTPSConnection if to.secure else http.client.HTTPConnection
    with contextlib.closing(kind(to.host, to.port, timeout=min(left, CONNECT_SECONDS))) as connection:
        cut: threading.Timer | None = None
        try:
            connection.connect()
            connection.sock.settimeout(None)
            cut = threading.Timer(deadline - time.monotonic(), _cut, [connection.sock, str(to)])
            cut.daemon = True
            cut.start()
            reply = _answer(connection, to.path + path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() >= deadline:
                raise Late(f"{to} gave no answer in time") from error
            raise Again(f"{to}: {type(error).__name__}: {error}"[:300]) from error
        finally:
            if cut is not None:
                cut.cancel()
    if time.monotonic() >= deadline:
        raise Late(f"{to} gave no answer in time")
    return reply


def _answer(connection: http.client.HTTPConnection, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
    try:
        connection.request("POST", path, body, {"Connection": "close", **headers})
    except (BrokenPipeError, ConnectionResetError) as error:  # a refusal may come before the whole body was read
        logger.debug("%s closed while it was sent to: %s", connection.host, error)
    response = connection.getresponse()
    if response.length is None and not response.chunked:
        raise http.client.HTTPException("an answer whose end cannot be told from a broken connection")
    read = response.read(MAX_ANSWER + 1)
    if len(read) > MAX_ANSWER:
        raise http.client.HTTPException(f"an answer of more than {MAX_ANSWER >> 20} MiB")
    if response.length:  # a connection that was cut reads like the end of the body
        raise http.client.IncompleteRead(read, response.length)
    return Reply(response.status, read, seconds_to_wait(response.getheader("Retry-After", "")))


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


def _cut(connected: socket.socket, name: str) -> None:
    """End both directions, beneath any encryption: whoever waits on the socket wakes."""
    try:
        socket.socket.shutdown(connected, socket.SHUT_RDWR)
    except OSError as error:
        logger.debug("%s had left at the deadline: %s", name, error)
