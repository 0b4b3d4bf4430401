"""A service that speaks the protocol of /v1/chat/completions, as vLLM, SGLang, llama.cpp and OpenAI do."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from limner.core.errors import UserError
from limner.judging.exchange import Again, Late, Reply, address, exchange, loopback
from limner.judging.patience import GaveUp, persist, require_final
from limner.rewards.vlm.reply import clean, decode

logger = logging.getLogger(__name__)

LOCAL = "http://localhost:8000/v1"
"""Where vLLM listens unless told otherwise."""
MAX_WAIT_S = 60.0
"""A server that asks to wait longer is not waited for."""


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
        if self.key_env and not to.secure and not loopback(to.host):
            logger.warning("vlm: the key in %s is sent unencrypted to %s", self.key_env, to.host)
        self._key()

    def chat(self, request: Mapping[str, Any]) -> Outcome:
        """Send one request, again if that may help: a broken connection or its timeout, 408, 429 and 5xx."""
        model = {"model": self.model} if self.model else {}  # without one, a server answers with the model it has
        body = json.dumps({**model, "temperature": 0, **request}).encode()
        key = self._key()

        def once() -> Reply:
            try:
                reply = self._post(body, key)
            except Late as late:
                raise Again(str(late)) from late
            require_final(reply, _said(reply, key))
            return reply

        try:
            reply, tried = persist(once, self.tries, longest=MAX_WAIT_S)
        except GaveUp as lost:
            return Outcome(None, clean(str(lost)), lost.tries, down=True)
        return decode_outcome(reply.body, tried) if reply.status == 200 else Outcome(None, _said(reply, key), tried)

    def _post(self, body: bytes, key: str) -> Reply:
        deadline = time.monotonic() + self.timeout_s
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        return exchange(address(self.url, "vlm"), "/chat/completions", body, headers, deadline, True)

    def _key(self) -> str:
        """Return the API key, or nothing if none is named."""
        key = os.environ.get(self.key_env, "") if self.key_env else ""
        if self.key_env and not (key.isascii() and key.isprintable() and key):
            raise UserError(f"vlm: the environment variable {self.key_env} (key_env) holds no key; set it")
        return key


def _said(reply: Reply, key: str) -> str:
    """Return what a refusal says; the key may stand in it, and is struck out."""
    said = reply.body[:2000].decode(errors="replace")
    return clean(f"HTTP {reply.status}: {said.replace(key, '***') if key else said}")


def decode_outcome(body: bytes, tries: int) -> Outcome:
    """Return what a successful answer holds; a body that is no JSON object is a failure, and not tried again."""
    payload = decode(body)
    return Outcome(payload, "" if payload is not None else "the answer is not a JSON object", tries)
