"""A reward as an ASGI application that speaks `limner.judging.wire`: score, specs, health, readiness."""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
import logging
import math
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import torch
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from limner.core.errors import JudgeFailure, UserError
from limner.core.protocols import Reward
from limner.core.types import Images, Prompt, RewardOutput
from limner.judging import wire
from limner.judging.checked import Checked
from limner.judging.spec import spec_of
from limner.judging.wire import (
    CONTENT_TYPE,
    HEALTH,
    LIMITS,
    PROTOCOL,
    READY,
    SCORE,
    SPECS,
    Limits,
    Refused,
    decode_request,
    encode_answer,
    encode_error,
    identity,
)

logger = logging.getLogger(__name__)

SMALL = 2**20
"""Bytes of a body that is read at once; a larger one is read in a thread."""


def app(reward: Reward, name: str, limits: Limits = LIMITS, token: str = "") -> Starlette:
    """Return the application that hosts one reward.

    Requests are judged one at a time, in order, in a thread of their own, so that health is answered meanwhile. With a
    `token`, /v1/ needs `Authorization: Bearer TOKEN`. Statuses: 400 malformed, 401 token, 408 body too slow,
    413 over a limit, 415 content type, 422 the reward refuses (UserError), 429 too many wait, 500 the reward is broken,
    503 the judge failed or the client's deadline passed.
    """
    desk = Desk(reward, name, limits, token, ThreadPoolExecutor(1, "judge"))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        desk.closed = True
        desk.worker.shutdown(wait=False, cancel_futures=True)

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
    worker: ThreadPoolExecutor
    closed: bool = False
    present: int = 0
    """Requests that are received, waiting or judged."""
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
            answer = asyncio.get_running_loop().run_in_executor(self.worker, self._judge, asked, time.monotonic())
            return Response(await answer, media_type="application/json")
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
        """Say that the process lives."""
        return JSONResponse({"ok": True})

    async def ready(self, request: Request) -> Response:
        """Say whether a request would be taken now: 200 or 503."""
        free = not self.closed and self.present < self.limits.waiting
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
        elif self.closed or self.present >= self.limits.waiting:
            refused = Refused(429, "busy", f"{self.present} requests wait: come again")
        else:
            return
        await self._body(request, keep=False)
        raise refused

    async def _body(self, request: Request, keep: bool = True) -> bytes:
        """Return the body. Raises Refused if it is too large or takes too long."""
        body, length = bytearray(), 0
        try:
            async with asyncio.timeout(self.limits.receive_seconds):
                async for chunk in request.stream():
                    length += len(chunk)
                    if length > self.limits.body_bytes:
                        raise self._too_large()
                    body += chunk if keep else b""
        except TimeoutError as error:
            raise Refused(408, "slow", f"the body took over {self.limits.receive_seconds:g} s") from error
        return bytes(body)

    def _too_large(self) -> Refused:
        return Refused(413, "body_too_large", f"a body of at most {self.limits.body_bytes} bytes is read")

    async def _read(self, body: bytes) -> wire.Request:
        """Return what a body asks; it is read before its turn, so that a malformed one waits for nobody."""
        if len(body) <= SMALL:
            return decode_request(body, self.limits)
        return await asyncio.to_thread(decode_request, body, self.limits)

    def _judge(self, request: wire.Request, arrived: float) -> bytes:
        """Return the answer to a request that arrived at `arrived`; runs in the worker."""
        waited = time.monotonic() - arrived
        if request.seconds is not None and waited >= request.seconds:
            raise Refused(503, "late", f"the request waited {waited:.1f} s, past its deadline")
        with torch.no_grad():
            output = self._ask(request.media, request.prompts)
        server = {"batch": len(request.ids), "queue_ms": round(1000 * waited)}
        return encode_answer(request, output, self.name, self.identity, server)

    def _ask(self, media: Images, prompts: Sequence[Prompt]) -> RewardOutput:
        """Return the reward's answer in its one form."""
        try:
            answer = self.reward(media, prompts)
        except JudgeFailure as failure:
            raise Refused(503, "judge_failed", str(failure)) from failure
        except UserError as error:
            raise Refused(422, "refused", str(error)) from error
        try:
            return Checked(self.name, lambda *_: answer)(media, prompts)
        except UserError as error:
            logger.error("%s", error)
            raise Refused(500, "broken_reward", str(error)) from error


def _refusal(refused: Refused) -> Response:
    headers = {"Retry-After": "1"} if refused.status == 429 else {}
    return Response(encode_error(refused.code, str(refused)), refused.status, headers, "application/json")
