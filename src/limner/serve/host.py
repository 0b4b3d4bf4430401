"""A reward at an address: loopback by default, elsewhere only with a token."""

from __future__ import annotations

import socket

import uvicorn
from starlette.applications import Starlette

from limner.core.errors import UserError
from limner.core.protocols import Reward
from limner.judging.exchange import loopback
from limner.judging.wire import LIMITS, Limits
from limner.serve.app import app
from limner.serve.door import Door


def serve(
    reward: Reward, name: str, host: str = "127.0.0.1", port: int = 8000, token: str = "", limits: Limits = LIMITS
) -> None:
    """Host `reward` until interrupted; port 0 means any free one. Raises UserError as `listen` does."""
    with listen(host, port, token) as listener:
        place = f"[{host}]" if ":" in host else host
        print(f"{name} at http://{place}:{listener.getsockname()[1]} (Ctrl-C ends it)", flush=True)
        server(app(reward, name, limits, token)).run(sockets=[listener])


def listen(host: str, port: int, token: str) -> socket.socket:
    """Return the bound socket. Raises UserError for one beyond loopback without a token, or one not to be had."""
    if not loopback(host) and not token:
        raise UserError(
            f"host {host!r} can be reached from other machines: give a token (--token-env VARIABLE), or use 127.0.0.1"
        )
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise UserError("a token is of printable ASCII without spaces; make one with: openssl rand -hex 32")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise UserError(f"cannot listen at {host} port {port}: {error}; choose another with --port") from error


def server(application: Starlette, door: Door | None = None) -> uvicorn.Server:
    """Return the HTTP server: quiet, one request a connection, and with a door against a flood of them."""
    config = uvicorn.Config(
        application,
        http=(door or Door()).protocol,  # type: ignore[arg-type]
        ws="none",
        headers=[("Connection", "close")],
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
    )
    return uvicorn.Server(config)
