import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from limner.core.errors import JudgeFailure, RunError, UserError
from limner.core.media import Images, Media
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.judging.rows import from_rows
from limner.judging.spec import declare
from limner.judging.wire import CONTENT_TYPE, Limits, decode_answer, decode_error, encode_request, identity
from limner.serve.app import SMALL, app
from serving import call

PIXELS = torch.rand(3, 3, 6, 4, generator=torch.Generator().manual_seed(1))
PROMPTS = [Prompt("a"), Prompt("b", {"n": 2}), Prompt("c")]
BODY = encode_request(Images(PIXELS), PROMPTS, 60)
TYPE = {"content_type": CONTENT_TYPE}
ONES = torch.ones(3)


@declare(RewardSpec("light", "mean brightness", low=0.0, version="7", components={"n": "how many"}))
def light(media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
    score = media.frames().mean((1, 2, 3, 4))
    counts = torch.tensor([float(prompt.meta.get("n", 0)) for prompt in prompts])
    valid = torch.tensor([prompt.text != "c" for prompt in prompts])
    said = [prompt.text.upper() for prompt in prompts]
    return RewardOutput(
        score, valid, {"n": counts}, torch.full_like(score, 0.5), said, {"red": media.frames()[:, 0, 0]}
    )


def post(application: Any, body: bytes | list[bytes] = BODY, **headers: str) -> tuple[int, dict[str, str], bytes]:
    return asyncio.run(call(application, "/v1/score", body, **(TYPE | headers)))


def test_a_batch_is_judged_sample_by_sample_with_all_that_the_judge_says() -> None:
    status, _, body = post(app(light, "light"))
    content = json.loads(body)
    assert status == 200 and content["reward"] == {"name": "light", "identity": identity("light", light)}
    assert [item["ok"] for item in content["items"]] == [True, True, False]
    assert content["server"]["batch"] == 3 and content["server"]["queue_ms"] >= 0
    got, here = from_rows(decode_answer(body, 3).rows), light(Images(PIXELS).rounded(), PROMPTS)
    assert torch.equal(got.score[:2], here.score[:2]) and got.score[2].isnan()
    assert got.components["n"].tolist() == [0.0, 2.0, 0.0] and got.explanation == ("A", "B", "C")
    assert got.uncertainty is not None and got.uncertainty.tolist() == [0.5] * 3
    assert torch.equal(got.maps["red"], here.maps["red"])


def test_a_score_that_is_not_finite_is_no_score() -> None:
    _, _, body = post(app(lambda media, prompts: torch.tensor([1.0, torch.nan, torch.inf]), "mine"))
    items = json.loads(body)["items"]
    assert [item["ok"] for item in items] == [True, False, False] and items[0]["score"] == 1.0
    assert items[2]["error"]["code"] == "not_judged"


def raising(error: BaseException) -> Any:
    def reward(media: Media, prompts: Sequence[Prompt]) -> Tensor:
        raise error

    return reward


@pytest.mark.parametrize(
    ("reward", "status", "code", "says"),
    [
        (raising(JudgeFailure("the model is away")), 503, "judge_failed", "the model is away"),
        (raising(UserError("'c' is no scene")), 422, "refused", "'c' is no scene"),
        (raising(SystemExit(3)), 422, "raised", "the reward raised SystemExit"),
        (raising(RunError("the judge behind it is away")), 503, "judge_failed", "the judge behind it is away"),
        (lambda media, prompts: torch.zeros(2), 422, "refused", "reward 'mine': expected one number a sample"),
        (lambda *_: RewardOutput(ONES, ONES > 0, explanation=[b"x"] * 3), 422, "refused", "reward 'mine': expected"),
    ],
)
def test_what_a_reward_raises_has_its_status(reward: Any, status: int, code: str, says: str) -> None:
    got, _, body = post(app(reward, "mine"))
    assert got == status and json.loads(body)["error"]["code"] == code and decode_error(body).startswith(says)


def test_a_programming_error_ends_its_request_alone_and_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken(media: Media, prompts: Sequence[Prompt]) -> Tensor:
        if prompts[0].text == "boom":
            raise KeyError("secret")
        return torch.ones(len(media))

    application = app(broken, "mine")
    status, _, body = post(application, encode_request(Images(PIXELS[:1]), [Prompt("boom")], 9))
    assert status == 422 and "raised KeyError" in decode_error(body) and b"secret" not in body
    assert "secret" in caplog.text and post(application)[0] == 200


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", "bearer s3cret", "Basic s3cret", "Bearer s3cret "])
def test_without_the_token_nothing_is_judged_or_told(given: str) -> None:
    application = app(raising(AssertionError("asked")), "mine", token="s3cret")
    status, _, body = post(application, authorization=given)
    assert status == 401 and json.loads(body)["error"]["code"] == "token"
    assert asyncio.run(call(application, "/v1/specs", method="GET", authorization=given))[0] == 401
    assert asyncio.run(call(application, "/healthz", method="GET"))[0] == 200


def test_with_the_token_it_serves() -> None:
    application = app(light, "light", token="s3cret")
    assert post(application, authorization="Bearer s3cret")[0] == 200
    assert asyncio.run(call(application, "/v1/specs", method="GET", authorization="Bearer s3cret"))[0] == 200


def test_specs_say_what_is_hosted() -> None:
    status, _, body = asyncio.run(call(app(light, "mine", Limits(samples=5)), "/v1/specs", method="GET"))
    content = json.loads(body)
    (spec,) = content["rewards"]
    assert status == 200 and content["protocol"] == "1" and content["limits"]["samples"] == 5
    assert (spec["name"], spec["version"], spec["low"], spec["high"]) == ("mine", "7", 0.0, None)
    assert spec["identity"] == identity("mine", light) and spec["components"] == {"n": "how many"}


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"content_type": "application/json"}, BODY, 415),
        ({"content_type": CONTENT_TYPE + "; v=1"}, BODY, 200),
        ({"content_length": "4001"}, b"", 413),
        ({"content_length": "-1"}, b"", 413),
        ({"content_length": "9" * 30}, b"", 413),
        ({}, [b"x" * 1500] * 3, 413),
        ({}, [BODY[:7], b"", BODY[7:100], BODY[100:]], 200),
    ],
)
def test_kind_and_length_of_a_body(headers: dict[str, str], body: bytes | list[bytes], status: int) -> None:
    assert post(app(light, "light", Limits(body_bytes=4000)), body, **headers)[0] == status


def test_a_body_that_does_not_arrive_is_not_waited_for() -> None:
    async def run() -> tuple[int, bool, float]:
        application, sent = app(light, "light", Limits(receive_seconds=0.1)), []

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(60)
            return {}

        async def send(message: Any) -> None:
            sent.append(message)

        start = time.monotonic()
        path = {"path": "/v1/score", "raw_path": b"", "query_string": b"", "root_path": "", "http_version": "1.1"}
        headers = [(b"content-type", CONTENT_TYPE.encode())]
        await application({"type": "http", "method": "POST", "headers": headers, **path}, receive, send)
        status, _, _ = await call(application, "/readyz", method="GET")
        return sent[0]["status"], status == 200, time.monotonic() - start

    status, ready, seconds = asyncio.run(run())
    assert (status, ready) == (408, True) and seconds < 20


def test_who_leaves_amid_a_body_frees_the_place() -> None:
    application = app(light, "light", Limits(waiting=1))

    async def run() -> list[int]:
        async def receive() -> dict[str, Any]:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            return None

        path = {"path": "/v1/score", "raw_path": b"", "query_string": b"", "root_path": "", "http_version": "1.1"}
        headers = [(b"content-type", CONTENT_TYPE.encode())]
        for _ in range(3):
            await application({"type": "http", "method": "POST", "headers": headers, **path}, receive, send)
        return [(await call(application, "/v1/score", BODY, **TYPE))[0]]

    assert asyncio.run(run()) == [200]


def test_a_full_line_is_told_to_come_again_and_health_is_answered_meanwhile() -> None:
    gate, running = threading.Event(), []

    def slow(media: Media, prompts: Sequence[Prompt]) -> Tensor:
        running.append(1)
        assert gate.wait(10) and len(running) == 1, "one at a time"
        running.pop()
        return torch.ones(len(media))

    async def run() -> None:
        application = app(slow, "slow", Limits(waiting=2))
        first = [asyncio.create_task(call(application, "/v1/score", BODY, **TYPE)) for _ in range(2)]
        while not running:
            await asyncio.sleep(0.001)
        status, headers, body = await call(application, "/v1/score", BODY, **TYPE)
        assert (status, headers["retry-after"], json.loads(body)["error"]["code"]) == (429, "1", "busy")
        assert (await call(application, "/readyz", method="GET"))[0] == 503
        assert (await call(application, "/healthz", method="GET"))[0] == 200
        gate.set()
        assert [(await task)[0] for task in first] == [200, 200]
        assert (await call(application, "/readyz", method="GET"))[0] == 200

    asyncio.run(run())


def test_a_malformed_request_is_refused_while_the_judge_is_busy() -> None:
    gate = threading.Event()

    def slow(media: Media, prompts: Sequence[Prompt]) -> Tensor:
        assert gate.wait(10)
        return torch.ones(len(media))

    async def run() -> None:
        application = app(slow, "slow")
        first = asyncio.create_task(call(application, "/v1/score", BODY, **TYPE))
        for junk in (b"junk", b"x" * 2**21):
            assert (await call(application, "/v1/score", junk, **TYPE))[0] == 400
        assert not first.done()
        gate.set()
        assert (await first)[0] == 200

    asyncio.run(run())


def test_a_large_body_is_judged_as_a_small_one() -> None:
    media = Images(torch.rand(2, 3, 512, 512, generator=torch.Generator().manual_seed(7)))
    body = encode_request(media, PROMPTS[:2], 60)
    assert len(body) > SMALL
    rows = decode_answer(post(app(lambda media, _: media.pixels.mean((1, 2, 3)), "light"), body)[2], 2).rows
    assert torch.equal(from_rows(rows).score, media.rounded().pixels.mean((1, 2, 3)))


def test_a_request_past_its_deadline_is_not_judged() -> None:
    status, _, body = post(app(raising(AssertionError("asked")), "mine"), encode_request(Images(PIXELS), PROMPTS, 0))
    assert status == 503 and json.loads(body)["error"]["code"] == "late"


def test_a_judge_without_end_is_given_up_and_nothing_piles_up_behind_it() -> None:
    gate, begun = threading.Event(), []

    def slow(media: Media, prompts: Sequence[Prompt]) -> Tensor:
        begun.append(1)
        assert gate.wait(10)
        return torch.ones(len(media))

    async def told(application: Any, path: str) -> int:
        return (await call(application, path, method="GET"))[0]

    async def run() -> None:
        application = app(slow, "slow", Limits(judge_seconds=0.1))
        waiting = [asyncio.create_task(call(application, "/v1/score", BODY, **TYPE)) for _ in range(3)]
        said = [(status, json.loads(body)["error"]["code"]) for status, _, body in [await task for task in waiting]]
        assert said == [(503, "overdue")] * 3 and len(begun) == 1, "those behind it are not judged"
        assert await told(application, "/healthz") == await told(application, "/readyz") == 503
        start = time.monotonic()
        assert (await call(application, "/v1/score", BODY, **TYPE))[0] == 503
        assert time.monotonic() - start < 0.1 and len(begun) == 1
        gate.set()
        while await told(application, "/healthz") == 503:
            await asyncio.sleep(0.001)
        assert (await call(application, "/v1/score", BODY, **TYPE))[0] == 200

    asyncio.run(run())


def test_a_judge_without_end_does_not_keep_the_process() -> None:
    code = "import threading; from limner.serve.worker import Worker; Worker().do(threading.Event().wait); print('end')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "end\n"


@pytest.mark.parametrize(("first", "status"), [(2**20, 400), (10, 408)], ids=["a MiB", "ten bytes"])
def test_a_body_has_a_second_more_for_each_mebibyte_that_came(first: int, status: int) -> None:
    async def run() -> int:
        sent: list[Any] = []
        chunks = [(0.0, b"x" * first), (0.3, b"x")]

        async def receive() -> dict[str, Any]:
            seconds, chunk = chunks.pop(0)
            await asyncio.sleep(seconds)
            return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

        async def send(message: Any) -> None:
            sent.append(message)

        path = {"path": "/v1/score", "raw_path": b"", "query_string": b"", "root_path": "", "http_version": "1.1"}
        headers = [(b"content-type", CONTENT_TYPE.encode())]
        scope = {"type": "http", "method": "POST", "headers": headers, **path}
        await app(light, "light", Limits(receive_seconds=0.05))(scope, receive, send)
        return int(sent[0]["status"])

    assert asyncio.run(run()) == status


def test_no_gradient_is_kept() -> None:
    weight = torch.ones(1, requires_grad=True)
    seen = []

    def learned(media: Media, prompts: Sequence[Prompt]) -> Tensor:
        seen.append((weight * media.frames().mean((1, 2, 3, 4))).requires_grad)
        return torch.ones(len(media))

    assert post(app(learned, "mine"))[0] == 200 and seen == [False]
