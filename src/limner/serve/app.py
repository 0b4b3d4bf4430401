"""A reward as an ASGI application that speaks `limner.judging.wire`: score, specs, health, readiness."""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
import logging
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import torch
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from limner.core.errors import BrokenReward, JudgeFailure, RunError, UserError
from limner.core.protocols import Reward
from limner.judging import wire
from limner.judging.checked import Checked
from limner.judging.spec import spec_of
from limner.judging.strict import Refused
from limner.judging.wire import (
    CONTENT_TYPE,
    HEALTH,
    KINDS,
    LIMITS,
    PROTOCOL,
    READY,
    SCORE,
    SPECS,
    Kinds,
    Limits,
    decode_request,
    encode_answer,
    encode_error,
    identity,
)
from limner.serve.worker import Worker

logger = logging.getLogger(__name__)

SMALL = 2**20
"""Bytes of a body that is read at once; a larger one is read in a thread."""


def app(reward: Reward, name: str, limits: Limits = LIMITS, token: str = "", kinds: Kinds = KINDS) -> Starlette:
    """Return the application that hosts one reward, for media of `kinds`.

    Requests are judged one at a time, in order, in a thread of their own, so that health is answered meanwhile. With a
    `token`, /v1/ needs `Authorization: Bearer TOKEN`. Statuses: 400 malformed, 401 token, 408 body too slow,
    413 over a limit, 415 content type, 422 the reward refuses this request, or raises at it, 429 too many wait,
    503 the judge failed, is overdue, or the client's deadline passed. What would fail again is never 5xx.

    A judge that is not done after `limits.judge_seconds` is overdue: its request is answered, and until it is done no
    other is taken, and neither health nor readiness is told. No thread can be ended from outside: whoever supervises
    the process restarts it on /healthz.
    """
    desk = Desk(reward, name, limits, token, kinds)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        desk.closed = True

    routes = [
        Route(SCORE, desk.score, methods=["POST"]),
        Route(SPECS, desk.specs),
        Route(HEALTH, desk.health),
        Route(READY, desk.ready),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


@dataclass
class Desk:
    """Where requests arrive."""

    reward: Reward
    name: str
    limits: Limits
    token: str
    kinds: Kinds
    worker: Worker = field(default_factory=Worker)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    closed: bool = False
    present: int = 0
    """Requests that are received, waiting or judged."""
    overdue: bool = False
    """Whether the worker is at a request that was given up."""
    identity: str = field(init=False)

    def __post_init__(self) -> None:
        self.identity = identity(self.name, self.reward)

    async def score(self, request: Request) -> Response:
        """Judge one batch."""
        try:
            await self._admit(request)
        except Refused as refused:
            return _refusal(refused)
        self.present += 1
        try:
            asked = await self._read(await self._body(request))
            return Response(await self._judged(asked), media_type="application/json")
        except Refused as refused:
            return _refusal(refused)
        except ClientDisconnect:
            return _refusal(Refused(400, "gone", "the client left"))
        finally:
            self.present -= 1

    async def specs(self, request: Request) -> Response:
        """Describe the reward and the limits."""
        if not self._may(request):
            return _refusal(Refused(401, "token", "a bearer token is needed"))
        spec = dataclasses.asdict(spec_of(self.name, self.reward))
        bounds = {key: spec[key] if math.isfinite(spec[key]) else None for key in ("low", "high")}
        described = spec | bounds | {"name": self.name, "identity": self.identity}
        limits = dataclasses.asdict(self.limits)
        return JSONResponse({"protocol": PROTOCOL, "rewards": [described], "limits": limits})

    async def health(self, request: Request) -> Response:
        """Say whether the process is well: 200, or 503 while a judge is overdue."""
        return JSONResponse({"ok": not self.overdue}, 503 if self.overdue else 200)

    async def ready(self, request: Request) -> Response:
        """Say whether a request would be taken now: 200 or 503."""
        free = not self.closed and not self.overdue and self.present < self.limits.waiting
        return JSONResponse({"ready": free, "present": self.present}, 200 if free else 503)

    def _may(self, request: Request) -> bool:
        given = request.headers.get("authorization", "").encode()
        return not self.token or hmac.compare_digest(given, f"Bearer {self.token}".encode())

    async def _admit(self, request: Request) -> None:
        """Raise Refused for a request that is not to be judged.

        Its body is read all the same, and dropped: a client that sends before it listens hears the answer.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 15 or int(length) > self.limits.body_bytes:
            raise self._too_large()
        if not self._may(request):
            refused = Refused(401, "token", "a bearer token is needed")
        elif kind != CONTENT_TYPE:
            refused = Refused(415, "content_type", f"a request is of type {CONTENT_TYPE}")
        elif self.overdue:
            refused = self._overdue()
        elif self.closed or self.present >= self.limits.waiting:
            refused = Refused(429, "busy", f"{self.present} requests wait: come again")
        else:
            return
        await self._body(request, keep=False)
        raise refused

    async def _body(self, request: Request, keep: bool = True) -> bytes:
        """Return the body. Raises Refused if it is too large or takes too long."""
        body, length = bytearray(), 0
        start = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self.limits.receive_seconds) as left:
                async for chunk in request.stream():
                    length += len(chunk)
                    left.reschedule(start + self.limits.receive_seconds + length / 2**20)
                    if length > self.limits.body_bytes:
                        raise self._too_large()
                    body += chunk if keep else b""
        except TimeoutError as error:
            raise Refused(408, "slow", f"{length} bytes of the body came in time, and not the rest") from error
        return bytes(body)

    def _too_large(self) -> Refused:
        return Refused(413, "body_too_large", f"a body of at most {self.limits.body_bytes} bytes is read")

    async def _read(self, body: bytes) -> wire.Request:
        """Return what a body asks; it is read before its turn, so that a malformed one waits for nobody."""
        if len(body) <= SMALL:
            return decode_request(body, self.limits, self.kinds)
        return await asyncio.to_thread(decode_request, body, self.limits, self.kinds)

    async def _judged(self, request: wire.Request) -> bytes:
        """Return the answer to a request, once it is its turn. Raises Refused if that is too late, or it takes long."""
        arrived = time.monotonic()
        async with self.turn:
            waited = time.monotonic() - arrived
            if self.overdue:
                raise self._overdue()
            if request.seconds is not None and waited >= request.seconds:
                raise Refused(503, "late", f"the request waited {waited:.1f} s, past its deadline")
            answer = asyncio.wrap_future(self.worker.do(lambda: self._judge(request, waited)))
            await asyncio.wait({answer}, timeout=self.limits.judge_seconds)
            self.overdue = not answer.done()
            if self.overdue:
                answer.add_done_callback(self._caught_up)
                raise self._overdue()
            return await answer

    def _caught_up(self, answer: asyncio.Future[bytes]) -> None:
        """Take requests again: the worker is done with the one that was given up."""
        self.overdue = False
        logger.warning(
            "reward %r is done with a request that was given up (%s)", self.name, answer.exception() or "well"
        )

    def _overdue(self) -> Refused:
        return Refused(
            503, "overdue", f"the judge is at a request for over {self.limits.judge_seconds:g} s (--judge-seconds)"
        )

    def _judge(self, request: wire.Request, waited: float) -> bytes:
        """Return the answer to a request that waited so many seconds; runs in the worker."""
        server = {"batch": len(request.ids), "queue_ms": round(1000 * waited)}
        try:
            with torch.no_grad():
                answer = self.reward(request.media, request.prompts)
            output = Checked(self.name, lambda *_: answer)(request.media, request.prompts)
            return encode_answer(request, output, self.name, self.identity, server)
        except (JudgeFailure, RunError) as failure:
            raise Refused(503, "judge_failed", str(failure)) from failure
        except UserError as error:
            raise Refused(422, "refused", str(error)) from error
        except (Exception, SystemExit) as error:
            logger.exception("reward %r raised", self.name)
            raised = error.__cause__ if isinstance(error, BrokenReward) else error
            said = f"the reward raised {type(raised).__name__} on this request; its host's log says where"
            raise Refused(422, "raised", said) from error


def _refusal(refused: Refused) -> Response:
    headers = {"Retry-After": "1"} if refused.status == 429 else {}
    return Response(encode_error(refused.code, str(refused)), refused.status, headers, "application/json")
