"""A judge elsewhere: micro-batches go to one or several servers, and what cannot be had is not judged."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch

from limner.core.errors import JudgeFailure, RunError, UserError
from limner.core.media import Media
from limner.core.tree import select
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.judging.exchange import Late, address, exchange
from limner.judging.patience import GaveUp, persist, require_final
from limner.judging.rows import Row, from_rows
from limner.judging.strict import Refused
from limner.judging.wire import CONTENT_TYPE, SCORE, decode_answer, decode_error, encode_request
from limner.rewards.remote.service import Server, Service

logger = logging.getLogger(__name__)

Policy = Literal["drop", "required"]


@dataclass(frozen=True, kw_only=True)
class Remote:
    """Ask the judge that `limner serve-reward` hosts at `url`, `micro_batch` samples a request, `in_flight` at once.

    Scores are those of the same judge in this process, to the bit, if it judges a sample alike in any batch.
    A request has `tries`, for connection errors, 408, 429 and 5xx only (`limner.judging.patience`); all of them, waits
    included, have `timeout` seconds. What it then lacks is not judged: with "drop" those samples leave
    their groups, with "required" the run stops, RunError, after `budget` such calls in a row.
    Raises JudgeFailure if nothing of a batch was judged, and UserError where asking again would not help: a wrong
    token, a request over the server's limits, a server that hosts another reward than before.
    """

    url: str = "http://127.0.0.1:8000"
    """Of a server, or of several that host the same reward, separated by commas."""
    timeout: float = 30.0
    token_env: str = ""
    """The environment variable that holds the bearer token; empty: none is needed."""
    in_flight: int = 4
    micro_batch: int = 16
    tries: int = 4
    on_failure: Policy = "drop"
    budget: int = 3
    _service: Service = field(init=False, repr=False, compare=False)
    _threads: ThreadPoolExecutor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        counts = {"in_flight": self.in_flight, "micro_batch": self.micro_batch, "tries": self.tries}
        for name, value in (counts | {"budget": self.budget}).items():
            if not isinstance(value, int) or value < 1:
                raise UserError(f"remote: {name} must be a whole number of 1 or more, got {value!r}")
        if not 0 < self.timeout < math.inf:
            raise UserError(f"remote: timeout must be a positive number of seconds, got {self.timeout!r}")
        if self.on_failure not in get_args(Policy):
            raise UserError(f"remote: on_failure must be 'drop' or 'required', got {self.on_failure!r}")
        self._headers()
        service = Service([address(url, "remote") for url in self.url.split(",")])
        object.__setattr__(self, "_service", service)
        object.__setattr__(self, "_threads", ThreadPoolExecutor(self.in_flight, "remote"))

    @property
    def spec(self) -> RewardSpec:
        """What is known without asking: next to nothing. GET /v1/specs tells the rest."""
        return RewardSpec(
            "remote", "whatever the server at `url` hosts", needs=("prompt",), deterministic=False, elsewhere=True
        )

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        parts = torch.arange(len(media)).split(self.micro_batch) if len(media) else ()
        asked = [
            self._threads.submit(self._rows, select(media, rows), [prompts[i] for i in rows.tolist()]) for rows in parts
        ]
        try:
            answers = [future.result() for future in asked]
        finally:
            for future in asked:
                future.cancel()
        lost = [answer for answer in answers if isinstance(answer, JudgeFailure)]
        in_a_row = self._service.settle(bool(lost))
        if lost and self.on_failure == "required" and in_a_row >= self.budget:
            raise RunError(f"the required judge at {self.url} left samples unjudged {in_a_row} times: {lost[0]}")
        if len(lost) == len(parts) > 0:
            raise JudgeFailure(str(lost[0]))
        for failure in lost:
            logger.warning("a micro-batch was not judged: %s", failure)
        blank: Row = {"ok": False}
        rows = [[blank] * len(p) if isinstance(a, JudgeFailure) else a for p, a in zip(parts, answers, strict=True)]
        try:
            return from_rows([row for part in rows for row in part])
        except Refused as refused:
            raise JudgeFailure(f"{self.url}: answers that do not fit together: {refused}") from refused

    def _rows(self, media: Media, prompts: Sequence[Prompt]) -> Sequence[Row] | JudgeFailure:
        """Return what is said of a micro-batch, or why nothing is."""
        deadline = time.monotonic() + self.timeout

        def once() -> Sequence[Row]:
            with self._service.server(deadline) as server:
                return self._once(server, media, prompts, deadline)

        try:
            return persist(once, self.tries, deadline)[0]
        except GaveUp as lost:
            return JudgeFailure(f"{lost} ({lost.tries} tries)")
        except (Late, Refused, JudgeFailure) as final:
            return JudgeFailure(str(final))

    def _once(self, server: Server, media: Media, prompts: Sequence[Prompt], deadline: float) -> Sequence[Row]:
        body = encode_request(media, prompts, deadline - time.monotonic())
        reply = exchange(server.address, SCORE, body, self._headers(), deadline)
        if reply.status != 200:
            said = f"{server.address}: HTTP {reply.status}: {decode_error(reply.body)}"
            require_final(reply, said)
            raise UserError(f"remote: {said}")
        answer = decode_answer(reply.body, len(prompts))
        self._service.same(answer.identity, server.address)
        return answer.rows

    def _headers(self) -> dict[str, str]:
        token = os.environ.get(self.token_env, "") if self.token_env else ""
        if self.token_env and not (token and token.isascii() and token.isprintable()):
            raise UserError(f"remote: the environment variable {self.token_env!r} (token_env) holds no token; set it")
        return {"Content-Type": CONTENT_TYPE} | ({"Authorization": f"Bearer {token}"} if token else {})
