"""A batch of requests at once: bounded, counted, visible, and given up together when the service is down."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

from limner.core.errors import JudgeFailure
from limner.rewards.vlm.reply import Unreadable, tokens
from limner.rewards.vlm.service import LOCAL, Outcome, Service, Usage
from limner.rewards.vlm.templates import GUARD, ROLE

logger = logging.getLogger(__name__)

PROGRESS_S = 10.0
"""Seconds between two lines about a batch under way."""
GIVE_UP = 16
"""Requests in a row that a service leaves without an answer, before the rest of the batch is not sent."""
NOT_FINITE = "not asked: its pixels are not finite"

T = TypeVar("T")
Payload = Mapping[str, Any]


@dataclass(frozen=True)
class Asking:
    """The settings that every judge behind a URL has; see `VLMYesNo`."""

    url: str = LOCAL
    model: str = ""
    frames: int = 8
    key_env: str = ""
    timeout_s: float = 60.0
    tries: int = 4
    workers: int = 8

    @cached_property
    def service(self) -> Service:
        """Where it asks."""
        return Service(self.url, self.model, self.key_env, self.frames, self.timeout_s, self.tries, self.workers)

    @property
    def usage(self) -> Usage:
        """What it has cost so far."""
        return self.service.usage


@dataclass(frozen=True)
class Verdict(Generic[T]):
    """What a reply says, or the reason why it says nothing."""

    value: T | None
    reason: str = ""


def ask(
    name: str, service: Service, requests: Sequence[Payload | None], read: Callable[[Payload], T]
) -> list[Verdict[T]]:
    """Send the requests, `service.workers` at a time, and read their replies, in order; None is not sent.

    `read` raises Unreadable for a reply that is not of its form. What gave no verdict has no value, and says why.
    Raises JudgeFailure if not one request was answered.
    """
    start, sent = time.monotonic(), [i for i, request in enumerate(requests) if request is not None]
    outcomes = _send(name, service, {i: requests[i] or {} for i in sent})
    verdicts: list[Verdict[T]] = [Verdict(None, NOT_FINITE)] * len(requests)
    for i in sent:
        verdicts[i] = _read(outcomes[i], read)
    _count(service, list(outcomes.values()), time.monotonic() - start)
    spent = service.usage
    logger.info(
        "%s: %d requests in %.1f s; so far %d (%d failed, %d retries), %d + %d tokens, %.1f s",
        *(name, len(sent), time.monotonic() - start, spent.requests, spent.failed, spent.retries),
        *(spent.prompt_tokens, spent.completion_tokens, spent.seconds),
    )
    failed = [outcome.reason for outcome in outcomes.values() if outcome.payload is None]
    if sent and len(failed) == len(sent):
        raise JudgeFailure(f"{name}: {service.url} answered none of {len(sent)} requests, the first: {failed[0]}")
    mute = [verdict.reason for verdict in verdicts if verdict.value is None]
    if mute:
        logger.warning("%s: %d of %d requests gave no verdict, the first: %s", name, len(mute), len(requests), mute[0])
    return verdicts


def version(*parts: Any) -> str:
    """Return what identifies a judge: a hash of its templates, model, address and settings, role and guard included."""
    text = json.dumps([ROLE, GUARD, *parts], sort_keys=True, default=dataclasses.asdict)
    return f"1-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"


def _send(name: str, service: Service, requests: Mapping[int, Payload]) -> dict[int, Outcome]:
    silent: list[None] = []  # as long as the row of requests that the service has left without an answer

    def send(request: Payload) -> Outcome:
        if len(silent) >= GIVE_UP:
            return Outcome(None, f"not asked: no answer to the {GIVE_UP} requests before", down=True)
        outcome = service.chat(request)
        silent.append(None) if outcome.down else silent.clear()
        return outcome

    pool = ThreadPoolExecutor(service.workers, thread_name_prefix=name)
    try:
        futures: dict[Future[Outcome], int] = {pool.submit(send, request): i for i, request in requests.items()}
        told = time.monotonic()
        for done, _ in enumerate(as_completed(futures), 1):
            if time.monotonic() - told > PROGRESS_S:
                told = time.monotonic()
                logger.info("%s: %d of %d requests", name, done, len(futures))
        return {i: future.result() for future, i in futures.items()}
    finally:
        pool.shutdown(cancel_futures=True)


def _read(outcome: Outcome, read: Callable[[Payload], T]) -> Verdict[T]:
    if outcome.payload is None:
        return Verdict(None, outcome.reason)
    try:
        return Verdict(read(outcome.payload))
    except (Unreadable, RecursionError) as error:  # what is nested so deep cannot even be shown
        return Verdict(None, str(error))


def _count(service: Service, outcomes: Sequence[Outcome], seconds: float) -> None:
    spent = service.usage
    spent.requests += sum(outcome.tries > 0 for outcome in outcomes)
    spent.failed += sum(outcome.tries > 0 and outcome.payload is None for outcome in outcomes)
    spent.retries += sum(max(outcome.tries - 1, 0) for outcome in outcomes)
    counts = [tokens(outcome.payload) for outcome in outcomes if outcome.payload is not None]
    spent.prompt_tokens += sum(prompt for prompt, _ in counts)
    spent.completion_tokens += sum(completion for _, completion in counts)
    spent.seconds += seconds
