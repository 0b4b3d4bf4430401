"""A service that speaks the protocol of /v1/chat/completions, as vLLM, SGLang, llama.cpp and OpenAI do."""

from __future__ import annotations

import json
import logging
import os
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from limner.core.errors import UserError
from limner.core.exchange import Again, Late, Reply, address, exchange
from limner.rewards.vlm.reply import clean, decode

logger = logging.getLogger(__name__)

LOCAL = "http://localhost:8000/v1"
"""Where vLLM listens unless told otherwise."""
RETRIED = (408, 429)
"""Statuses besides 5xx that may be otherwise a little later."""
BACKOFF_S = 0.5
MAX_WAIT_S = 60.0
"""A server that asks to wait longer is not waited for."""
_JITTER = random.Random()  # not the global one, whose state belongs to the user


@dataclass
class Usage:
    """What a judge has cost so far."""

    requests: int = 0
    failed: int = 0
    """Requests without an answer after all their tries."""
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """As the service counts them; 0 if it does not say."""
    seconds: float = 0.0
    """Time spent in calls of the judge."""


@dataclass(frozen=True)
class Outcome:
    """What became of one request: the payload of its answer, or the reason why there is none."""

    payload: Mapping[str, Any] | None
    reason: str = ""
    tries: int = 0
    down: bool = False
    """Whether the service seems to be out of order, rather than this request."""


@dataclass(frozen=True)
class Service:
    """Where and how to ask. `key_env` names the environment variable that holds the API key; the key is never kept."""

    url: str
    model: str
    key_env: str
    frames: int
    timeout_s: float
    tries: int
    workers: int
    usage: Usage = field(default_factory=Usage, compare=False)

    def check(self) -> None:
        """Raise UserError, one line, for settings that cannot work."""
        to = address(self.url, "vlm")
        for name, value in {"frames": self.frames, "tries": self.tries, "workers": self.workers}.items():
            if value < 1:
                raise UserError(f"vlm: {name} must be 1 or more, got {value}")
        if not 0 < self.timeout_s < float("inf"):
            raise UserError(f"vlm: timeout_s must be a positive number of seconds, got {self.timeout_s}")
        if self.key_env and not to.secure and to.host not in ("localhost", "127.0.0.1", "::1"):
            logger.warning("vlm: the key in %s is sent unencrypted to %s", self.key_env, to.host)
        self._key()

    def chat(self, request: Mapping[str, Any]) -> Outcome:
        """Send one request, again if that may help: a broken connection or its timeout, 408, 429 and 5xx.

        Between tries it waits what Retry-After asks for, or a uniformly drawn part of BACKOFF_S x 2^try seconds.
        Source of the wait: "full jitter", M. Brooker, Exponential Backoff And Jitter (2015).
        """
        model = {"model": self.model} if self.model else {}  # without one, a server answers with the model it has
        body = json.dumps({**model, "temperature": 0, **request}).encode()
        key, reason, tried = self._key(), "", 0
        for tried in range(1, self.tries + 1):
            wait = _JITTER.uniform(0, BACKOFF_S * 2**tried)
            try:
                answer = self._post(body, key)
            except (Again, Late) as error:
                reason = str(error)
            else:
                if answer.status == 200:
                    return decode_outcome(answer.body, tried)
                said = answer.body[:2000].decode(errors="replace")
                reason = f"HTTP {answer.status}: {said.replace(key, '***') if key else said}"
                if answer.status not in RETRIED and answer.status < 500:
                    return Outcome(None, clean(reason), tried)
                if answer.retry_after is not None:
                    if answer.retry_after > MAX_WAIT_S:
                        break
                    wait = answer.retry_after
            if tried < self.tries:
                time.sleep(wait)
        return Outcome(None, clean(reason), tried, down=True)

    def _post(self, body: bytes, key: str) -> Reply:
        deadline = time.monotonic() + self.timeout_s
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        return exchange(address(self.url, "vlm"), "/chat/completions", body, headers, deadline)

    def _key(self) -> str:
        """Return the API key, or nothing if none is named."""
        key = os.environ.get(self.key_env, "") if self.key_env else ""
        if self.key_env and not (key.isascii() and key.isprintable() and key):
            raise UserError(f"vlm: the environment variable {self.key_env} (key_env) holds no key; set it")
        return key


def decode_outcome(body: bytes, tries: int) -> Outcome:
    """Return what a successful answer holds; a body that is no JSON object is a failure, and not tried again."""
    payload = decode(body)
    return Outcome(payload, "" if payload is not None else "the answer is not a JSON object", tries)
