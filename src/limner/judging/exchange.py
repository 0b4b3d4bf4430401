"""One HTTP exchange within a deadline and a size, by httpx2. No redirects; certificates are verified."""

from __future__ import annotations

import asyncio
import email.utils
import functools
import ipaddress
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx2

from limner.core.errors import LimnerError, UserError

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
        host, port = f"[{self.host}]" if ":" in self.host else self.host, "" if self.port is None else f":{self.port}"
        return f"{'https' if self.secure else 'http'}://{host}{port}{self.path}"


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


def loopback(host: str) -> bool:
    """Tell whether a host is this machine itself."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def exchange(
    to: Address, path: str, body: bytes, headers: Mapping[str, str], deadline: float, proxies: bool = False
) -> Reply:
    """Post `body` and return the whole answer; `deadline` is one of time.monotonic().

    It holds for look-up, connection, encryption and every byte together, so that a server which sends a byte now and
    then gains nothing. With `proxies`, HTTPS_PROXY, HTTP_PROXY and NO_PROXY are heeded, but for this machine itself.
    Raises Again if the exchange fails, Late at the deadline.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise Late(f"no time was left to ask {to}")
    asked = asyncio.run_coroutine_threadsafe(_post(to, path, body, headers, left, proxies), _loop())
    try:
        return asked.result()
    except TimeoutError as error:
        raise Late(f"{to} gave no answer in time") from error
    except (httpx2.TransportError, httpx2.InvalidURL, OSError, ValueError) as error:
        raise Again(f"{to}: {_reason(error)}"[:300]) from error
    finally:
        asked.cancel()


async def _post(
    to: Address, path: str, body: bytes, headers: Mapping[str, str], seconds: float, proxies: bool
) -> Reply:
    client = httpx2.AsyncClient(
        verify=_certificates(),
        trust_env=proxies and not loopback(to.host),
        timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
        headers={"Accept-Encoding": "identity", "Connection": "close"},
    )
    async with (
        asyncio.timeout(seconds),
        client,
        client.stream("POST", f"{to}{path}", content=body, headers=headers) as r,
    ):
        if not r.headers.keys() & {"content-length", "transfer-encoding"}:
            raise httpx2.RemoteProtocolError("an answer whose end cannot be told from a broken connection")
        read = bytearray()
        async for chunk in r.aiter_raw():
            read += chunk
            if len(read) > MAX_ANSWER:
                raise httpx2.RemoteProtocolError(f"an answer of more than {MAX_ANSWER >> 20} MiB")
        return Reply(r.status_code, bytes(read), seconds_to_wait(r.headers.get("Retry-After", "")))


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """Return the event loop that all exchanges share, in a thread that does not keep the process from ending.

    Of their own they would have to wait for look-ups of names, which cannot be cut short, before they could return.
    """
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="exchange", daemon=True).start()
    return loop


@functools.cache
def _certificates() -> ssl.SSLContext:
    return httpx2.create_ssl_context()


def _reason(error: BaseException) -> str:
    """Return what went wrong at the bottom: the library's own words say less than the system's."""
    while below := error.__cause__ or error.__context__:
        error = below
    return f"{type(error).__name__}: {error}"


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
