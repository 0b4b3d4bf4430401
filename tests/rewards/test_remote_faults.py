"""Servers that are slow, dying, busy or lying: what they say never becomes a reward, and others are asked instead."""

import gzip
import json
import math
import random
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from limner.core.errors import JudgeFailure, RunError, UserError
from limner.core.media import Images, Media
from limner.core.types import Prompt
from limner.judging import exchange, patience
from limner.judging.checked import Checked
from limner.judging.exchange import Again, address
from limner.judging.wire import Limits
from limner.rewards.remote import Remote, service
from limner.rewards.remote.service import Service
from serving import hosted, http, received, scripted

MEDIA = Images(torch.rand(4, 3, 4, 4, generator=torch.Generator().manual_seed(4)))
PROMPTS = [Prompt(f"{i}", {"i": i}) for i in range(4)]
Answering = Callable[[socket.socket, int], None]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(patience, "BACKOFF_SECONDS", 0.005)
    monkeypatch.setattr(service, "REST_SECONDS", 0.15)
    yield


def index(media: Media, prompts: Sequence[Prompt]) -> Tensor:
    """Score a sample with its number."""
    return torch.tensor([float(prompt.meta["i"]) for prompt in prompts])


def reply(*scores: Any, **changes: Any) -> bytes:
    items = [{"id": i, "ok": True, "score": score} for i, score in enumerate(scores)]
    content = {"protocol": "1", "reward": {"name": "n", "identity": "i"}, "items": items, "server": {}} | changes
    return json.dumps(content).encode()


GOOD = http(200, reply(0.0, 1.0, 2.0, 3.0))


def sending(*answers: bytes) -> Answering:
    """Read the request and send the answers in turn, the last one from then on."""

    def answer(connection: socket.socket, number: int) -> None:
        received(connection)
        connection.sendall(answers[min(number, len(answers) - 1)])

    return answer


def dripping(connection: socket.socket, number: int) -> None:
    """Send one byte of an endless header now and then."""
    received(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        connection.sendall(b"x")
        time.sleep(0.01)


def silent(connection: socket.socket, number: int) -> None:
    received(connection)
    connection.recv(1)


def deaf(connection: socket.socket, number: int) -> None:
    time.sleep(10)


def hanging_up(connection: socket.socket, number: int) -> None:
    connection.close()


LIARS = {
    "NaN": http(200, reply(0.0, math.nan, 2.0, 3.0)),
    "Infinity": http(200, reply(0.0, math.inf, 2.0, 3.0)),
    "too few": http(200, reply(0.0, 1.0, 2.0)),
    "too many": http(200, reply(0.0, 1.0, 2.0, 3.0, 4.0)),
    "text": http(200, reply("0", 1.0, 2.0, 3.0)),
    "nothing": http(200),
    "no JSON": http(200, b"<html>"),
    "another protocol": http(200, reply(0.0, 1.0, 2.0, 3.0, protocol="9")),
    "other samples": http(200, reply(0.0, 1.0, 2.0, 3.0).replace(b'"id": 3', b'"id": 7')),
}


@pytest.mark.parametrize("lie", LIARS)
def test_a_lie_is_no_reward_and_not_asked_for_again(lie: str) -> None:
    with scripted(sending(LIARS[lie])) as (url, seen), pytest.raises(JudgeFailure):
        Remote(url=url)(MEDIA, PROMPTS)
    assert len(seen) == 1


def test_answers_that_do_not_fit_together_are_no_reward() -> None:
    """Each is well by itself: maps of two shapes, and more components than a judge may have."""

    def saying(**more: Any) -> bytes:
        items = [{"id": i, "ok": True, "score": 1.0} | more for i in range(2)]
        return http(200, reply(items=items))

    shapes = saying(maps={"a": [[1]]}), saying(maps={"a": [[1, 2]]})
    names = [saying(components={f"{part}{i}": 1 for i in range(200)}) for part in "ab"]
    for answers in (shapes, names):
        with scripted(sending(*answers)) as (url, _), pytest.raises(JudgeFailure, match="do not fit together"):
            Remote(url=url, micro_batch=2, in_flight=1)(MEDIA, PROMPTS)


def test_a_number_beyond_float64_leaves_the_others_be() -> None:
    huge = http(200, reply(0.0, 1.0, 2.0, 3.0).replace(b"2.0", b"1e999"))
    with scripted(sending(huge)) as (url, _):
        output = Remote(url=url)(MEDIA, PROMPTS)
    assert output.valid.tolist() == [True, True, False, True] and output.score[2].isnan()


@pytest.mark.parametrize("fault", [dripping, silent, deaf])
def test_a_slow_server_has_its_time_and_no_more(fault: Answering) -> None:
    with scripted(fault) as (url, seen):
        start = time.monotonic()
        with pytest.raises(JudgeFailure, match="gave no answer in time"):
            Remote(url=url, timeout=0.5)(MEDIA, PROMPTS)
        assert 0.49 < time.monotonic() - start < 5 and len(seen) == 1


def chunks(*sizes: str, chunk: bytes = b"x") -> bytes:
    """Return an answer in chunks of such stated sizes."""
    body = b"".join(size.encode() + b"\r\n" + chunk + b"\r\n" for size in sizes)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body


def flooding(start: bytes, more: bytes) -> Answering:
    """Begin an answer and never end it."""

    def answer(connection: socket.socket, number: int) -> None:
        received(connection)
        connection.sendall(start)
        while True:
            connection.sendall(more)

    return answer


DYING = {
    "negative chunk": sending(chunks("-5", "0")),
    "negative chunk after one": sending(chunks("1", "-5", "0")),
    "a chunk of all there is, without end": flooding(chunks("-1"), b" " * 2**16),
    "chunk with underscores": sending(chunks("1_0")),
    "chunk that is no number": sending(chunks("0x1")),
    "chunk beyond all bounds": sending(chunks("f" * 30)),
    "chunk larger than what comes": sending(chunks("ffffffff")),
    "chunks without end": flooding(chunks(), b"10000\r\n" + b" " * 2**16 + b"\r\n"),
    "a head without end": flooding(b"HTTP/1.1 200 OK\r\n", b"X-More: x\r\n"),
    "two lengths": sending(GOOD.replace(b"Connection:", b"Content-Length: 7\r\nConnection:")),
    "negative length": sending(GOOD.replace(b"Content-Length: ", b"Content-Length: -")),
    "hanging up": hanging_up,
    "half an answer": sending(GOOD[:-20]),
    "half a header": sending(b"HTTP/1.1 200 O"),
    "no length": sending(b"HTTP/1.1 200 OK\r\n\r\n" + reply(0.0, 1.0, 2.0, 3.0)),
    "no HTTP": sending(b"hello\r\n\r\n"),
    "500": sending(http(500, b"boom")),
    "503": sending(http(503)),
    "429": sending(http(429)),
}


@pytest.mark.parametrize("fault", DYING)
def test_what_may_pass_is_tried_again_and_then_given_up(fault: str) -> None:
    with scripted(DYING[fault]) as (url, seen), pytest.raises(JudgeFailure, match=r"\(3 tries\)"):
        Remote(url=url, tries=3)(MEDIA, PROMPTS)
    assert len(seen) == 3


def test_chunks_are_read() -> None:
    body = reply(0.0, 1.0, 2.0, 3.0)
    told = chunks(f"{len(body):x}", chunk=body) + b"0\r\n\r\n"
    with scripted(sending(told)) as (url, _):
        assert Remote(url=url)(MEDIA, PROMPTS).score.tolist() == [0, 1, 2, 3]


def test_what_is_packed_is_not_unpacked() -> None:
    """A megabyte of zeros is a kilobyte when packed; what was not asked for is not read as JSON."""
    bomb = http(200, gzip.compress(b" " * 2**20 + reply(0.0, 1.0, 2.0, 3.0)), Content_Encoding="gzip")
    with scripted(sending(bomb)) as (url, seen), pytest.raises(JudgeFailure, match="no JSON"):
        Remote(url=url)(MEDIA, PROMPTS)
    assert len(seen) == 1


def test_what_passes_is_judged_in_the_end() -> None:
    with scripted(sending(http(503), http(429, Retry_After="0"), GOOD)) as (url, seen):
        assert Remote(url=url)(MEDIA, PROMPTS).score.tolist() == [0, 1, 2, 3] and len(seen) == 3


@pytest.mark.parametrize("status", [301, 302, 400, 401, 403, 404, 405, 413, 415, 422])
def test_what_does_not_pass_is_not_tried_again(status: int) -> None:
    elsewhere = http(status, b'{"error": {"message": "no \\u001b way"}}', Location="http://127.0.0.1:9/")
    with scripted(sending(elsewhere)) as (url, seen), pytest.raises(UserError, match=f"HTTP {status}: no   way"):
        Remote(url=url)(MEDIA, PROMPTS)
    assert len(seen) == 1


def test_retry_after_is_respected_within_the_deadline() -> None:
    with scripted(sending(http(429, Retry_After="1"), GOOD)) as (url, _):
        start = time.monotonic()
        assert Remote(url=url)(MEDIA, PROMPTS).valid.all()
        assert 1 <= time.monotonic() - start < 20
    with scripted(sending(http(429, Retry_After="3600"))) as (url, seen), pytest.raises(JudgeFailure, match="1 tries"):
        Remote(url=url, timeout=20)(MEDIA, PROMPTS)
    assert len(seen) == 1


def test_waits_are_drawn_uniformly_from_a_doubling_range(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", waits.append)
    monkeypatch.setattr(patience, "BACKOFF_SECONDS", 0.25)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with monkeypatch.context() as patch:
        patch.setattr(service, "MAX_FAILURES", 10_000)
        state = random.getstate()
        for _ in range(100):
            with pytest.raises(JudgeFailure, match="ConnectionRefusedError"):
                Remote(url=f"http://127.0.0.1:{port}")(MEDIA, PROMPTS)
    assert random.getstate() == state and len(waits) == 300
    for place, most in enumerate([0.5, 1.0, 2.0]):
        drawn = torch.tensor(waits[place::3])
        assert 0 <= drawn.min() < 0.2 * most and 0.8 * most < drawn.max() <= most


def test_an_answer_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "MAX_ANSWER", 1000)
    with scripted(sending(http(200, b" " * 2000))) as (url, _), pytest.raises(JudgeFailure, match="an answer of more"):
        Remote(url=url, tries=1)(MEDIA, PROMPTS)


def test_another_replica_is_asked_when_one_fails() -> None:
    with hosted(index) as good, scripted(DYING["500"]) as (bad, seen):
        far = Remote(url=f"{bad},{good}", micro_batch=1, in_flight=1)
        assert far(MEDIA, PROMPTS).score.tolist() == [0, 1, 2, 3]
        assert len(seen) == 1


def test_a_lost_micro_batch_is_dropped_alone(caplog: pytest.LogCaptureFixture) -> None:
    def forgetful(media: Media, prompts: Sequence[Prompt]) -> Tensor:
        if prompts[0].meta["i"] == 2:
            raise JudgeFailure("lost this one")
        return index(media, prompts)

    with hosted(forgetful) as url:
        output = Checked("far", Remote(url=url, micro_batch=2, tries=2))(MEDIA, PROMPTS)
    assert output.valid.tolist() == [True, True, False, False] and output.score[:2].tolist() == [0, 1]
    assert output.score[2:].isnan().all() and "lost this one (2 tries)" in caplog.text


def test_required_stops_after_its_budget_and_a_good_call_renews_it() -> None:
    bad, ok = http(503), GOOD
    with scripted(sending(bad, bad, ok, bad, bad, bad)) as (url, seen):
        far = Remote(url=url, tries=1, on_failure="required", budget=3)
        for _ in range(2):
            with pytest.raises(JudgeFailure):
                far(MEDIA, PROMPTS)
        assert far(MEDIA, PROMPTS).valid.all()
        for _ in range(2):
            with pytest.raises(JudgeFailure):
                far(MEDIA, PROMPTS)
        with pytest.raises(RunError, match=r"the required judge at http.* left samples unjudged 3 times: .*HTTP 503"):
            far(MEDIA, PROMPTS)
    assert len(seen) == 6


def test_a_server_that_keeps_failing_rests_and_is_tried_by_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "REST_SECONDS", 1000.0)
    with scripted(sending(http(500), http(500), http(500), http(500), GOOD)) as (url, seen):
        far = Remote(url=url, tries=1)
        (server,) = far._service.servers
        for _ in range(3):
            with pytest.raises(JudgeFailure, match="HTTP 500"):
                far(MEDIA, PROMPTS)
        with pytest.raises(JudgeFailure, match="failed 3 times in a row, and may not be asked yet"):
            far(MEDIA, PROMPTS)
        assert len(seen) == 3
        server.rest_until = 0.0  # it has rested
        with pytest.raises(JudgeFailure, match="HTTP 500"):
            far(MEDIA, PROMPTS)
        with pytest.raises(JudgeFailure, match="may not be asked yet"):
            far(MEDIA, PROMPTS)
        server.rest_until = 0.0
        with far._service.server(math.inf), pytest.raises(JudgeFailure, match="may not be asked yet"):
            far._service._take(0.0)  # one request at a time tries it
        assert far(MEDIA, PROMPTS).valid.all() and far(MEDIA, PROMPTS).valid.all() and len(seen) == 6


def test_a_busy_server_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "REST_SECONDS", 1000.0)
    with scripted(sending(*[http(429)] * 5, GOOD)) as (url, seen):
        assert Remote(url=url, tries=6)(MEDIA, PROMPTS).valid.all() and len(seen) == 6


def test_a_rest_within_the_deadline_is_waited_for() -> None:
    with scripted(sending(http(500), http(500), http(500), GOOD)) as (url, seen):
        start = time.monotonic()
        assert Remote(url=url, tries=4)(MEDIA, PROMPTS).valid.all()
        assert time.monotonic() - start >= 0.15 and len(seen) == 4


def test_the_least_busy_server_is_asked() -> None:
    pool = Service([address("http://a", "remote"), address("http://b", "remote")])
    with pool.server(math.inf) as first, pool.server(math.inf) as second, pool.server(math.inf) as third:
        assert {first.address.host, second.address.host} == {"a", "b"} and third in (first, second)
        assert sorted(server.busy for server in pool.servers) == [1, 2]
    with pytest.raises(Again), pool.server(math.inf) as failing:
        raise Again("gone")
    with pool.server(math.inf) as one, pool.server(math.inf) as two:
        assert one is two is not failing
    with pytest.raises(Again), pool.server(math.inf) as busy:
        raise Again("busy", broken=False)
    assert busy.failures == 0 and failing.failures == 1


def test_under_load_every_sample_is_judged_by_a_host_that_keeps_saying_it_is_busy() -> None:
    prompts = [Prompt("x", {"i": i}) for i in range(600)]
    media = Images(torch.rand(600, 3, 4, 4))
    with hosted(index, limits=Limits(waiting=2)) as url:
        output = Remote(url=url, in_flight=8, micro_batch=4, tries=1000)(media, prompts)
    assert output.valid.all() and output.score.tolist() == list(range(600))


def test_a_host_that_dies_amid_a_batch_and_one_that_lives() -> None:
    dead = sending(GOOD[: len(GOOD) // 2])
    prompts = [Prompt("x", {"i": i}) for i in range(200)]
    with hosted(index) as good, scripted(dead) as (bad, _):
        output = Remote(url=f"{bad},{good}", micro_batch=4)(Images(torch.rand(200, 3, 4, 4)), prompts)
    assert output.valid.all() and output.score.tolist() == list(range(200))
