"""A service that misbehaves: what is tried again, what is not, what it costs, and what becomes of the samples."""

from __future__ import annotations

import email.utils
import logging
import pickle
import random
import socket
import ssl
import threading
import time

import pytest
import torch

from limner.core.errors import JudgeFailure, UserError
from limner.core.media import Images
from limner.core.types import Prompt
from limner.judging import exchange, patience
from limner.rewards.vlm import asking, service
from limner.rewards.vlm.service import Service
from limner.rewards.vlm.yes_no import VLMYesNo
from rewards.vlm.server import Chat, Say, first_token
from serving import http, scripted

YES = first_token({"Yes": 0.9, "No": 0.1})
ONE = Images(torch.full((1, 3, 4, 4), 0.5)), [Prompt("a cat")]
FOUR = Images(torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 3, 4, 4) / 4), [Prompt(name) for name in "abcd"]


def judge(chat: Chat, **settings: object) -> VLMYesNo:
    return VLMYesNo(url=chat.url, model="eye", **{"timeout_s": 5.0, **settings})


@pytest.mark.parametrize(
    "fault",
    [
        Say("busy", 500),
        Say("gateway", 503),
        Say("late", 408),
        Say("slow down", 429, {"Retry-After": "0"}),
        Say("slow down", 429),
        Say("slow down", 429, {"Retry-After": "when I feel like it"}),
        Say(hang_up=True),
        Say("{}", cut=True),
    ],
    ids=["500", "503", "408", "429 at once", "429", "429 odd", "hang up", "cut"],
)
def test_what_may_pass_is_tried_again(chat: Chat, fault: Say) -> None:
    chat.in_turn(fault, fault, YES)
    reward = judge(chat)
    output = reward(*ONE)
    assert output.valid.tolist() == [True] and output.score.item() == pytest.approx(0.9)
    assert (reward.usage.requests, reward.usage.retries, reward.usage.failed) == (1, 2, 0) and len(chat.requests) == 3


@pytest.mark.parametrize("status", [301, 307, 400, 401, 403, 404, 413, 422])
def test_what_stays_wrong_is_not(chat: Chat, status: int) -> None:
    chat.in_turn(Say("no", status, {"Location": chat.url}))
    with pytest.raises(JudgeFailure, match=f"answered none of 1 requests, the first: HTTP {status}: no"):
        judge(chat)(*ONE)
    assert len(chat.requests) == 1


@pytest.mark.parametrize("body", ["<html>hello</html>", "", "[1, 2]", '{"choices": [', "[" * 100_000, "7" * 10_000])
def test_garbage_is_no_answer_and_not_asked_for_again(chat: Chat, body: str) -> None:
    chat.in_turn(Say(body))
    with pytest.raises(JudgeFailure, match="the answer is not a JSON object"):
        judge(chat)(*ONE)
    assert len(chat.requests) == 1


def test_tries_end(chat: Chat) -> None:
    chat.in_turn(Say("busy", 500))
    reward = judge(chat, tries=3)
    with pytest.raises(JudgeFailure, match="HTTP 500: busy"):
        reward(*ONE)
    assert len(chat.requests) == 3 and (reward.usage.failed, reward.usage.retries) == (1, 2)


def test_a_server_says_how_long_to_wait(chat: Chat) -> None:
    chat.in_turn(Say("slow down", 429, {"Retry-After": "1"}), YES)
    judge(chat)(*ONE)
    assert 1.0 <= chat.times[1] - chat.times[0] < 10
    chat.in_turn(Say("come back tomorrow", 429, {"Retry-After": "86400"}))
    with pytest.raises(JudgeFailure, match="come back tomorrow"):
        judge(chat)(*ONE)
    assert len(chat.requests) == 3, "a day is not waited, and the service not asked before"


def test_the_wait_is_read_as_seconds_or_a_date() -> None:
    later = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert exchange.seconds_to_wait("12") == 12 and 27 < (exchange.seconds_to_wait(later) or 0) <= 30
    assert exchange.seconds_to_wait("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert [exchange.seconds_to_wait(odd) for odd in ("", "soon", "-3", "1 Jan 99999 00:00:00")] == [None] * 4


def test_slow_is_no_answer(chat: Chat) -> None:
    chat.in_turn(Say("{}", delay_s=0.5))
    start = time.monotonic()
    with pytest.raises(JudgeFailure, match="no answer in time"):
        judge(chat, timeout_s=0.1, tries=2)(*ONE)
    assert 0.2 <= time.monotonic() - start < 10


def test_drops_are_no_answer_either(chat: Chat) -> None:
    """Every byte comes in time, the answer as a whole does not."""
    chat.in_turn(Say("{" + " " * 200, drip_s=0.02))
    start = time.monotonic()
    with pytest.raises(JudgeFailure, match="no answer in time"):
        judge(chat, timeout_s=0.2, tries=1)(*ONE)
    assert time.monotonic() - start < 4


def test_an_endless_answer_is_not_read(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "MAX_ANSWER", 2**20)
    chat.in_turn(Say("x" * 2**21))
    with pytest.raises(JudgeFailure, match="more than 1 MiB"):
        judge(chat, tries=1)(*ONE)


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        with pytest.raises(JudgeFailure, match="ConnectionRefusedError"):
            VLMYesNo(url=address, tries=1)(*ONE)


def test_one_that_fails_is_invalid_and_the_others_stand(chat: Chat, caplog: pytest.LogCaptureFixture) -> None:
    chat.answer = lambda request: (
        Say("no\x1b[31m", 400) if "\nb\n" in str(request["messages"][1]["content"][-1]["text"]) else YES
    )
    with caplog.at_level(logging.INFO):
        output = judge(chat)(*FOUR)
    assert output.valid.tolist() == [True, False, True, True] and output.score.isnan().tolist() == [
        False,
        True,
        False,
        False,
    ]
    assert output.explanation == [None, "HTTP 400: no [31m", None, None]
    assert "vlm_yes_no: 1 of 4 requests gave no verdict, the first: HTTP 400: no [31m" in caplog.messages
    assert any("so far 4 (1 failed, 0 retries), 150 + 3 tokens" in line for line in caplog.messages)


def test_a_service_that_is_down_is_given_up(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "GIVE_UP", 3)
    chat.in_turn(Say("busy", 500))
    many = Images(torch.zeros(20, 3, 2, 2)), [Prompt("a cat")] * 20
    reward = judge(chat, tries=1, workers=1)
    with pytest.raises(JudgeFailure, match="answered none of 20 requests"):
        reward(*many)
    assert len(chat.requests) == 3 == reward.usage.requests == reward.usage.failed
    chat.in_turn(Say("busy", 500), Say("busy", 500), YES)
    assert reward(*many).valid.tolist() == [False, False, *[True] * 18], "one answer, and it is not down"


def test_as_many_at_a_time_as_there_are_workers(chat: Chat) -> None:
    chat.in_turn(Say(YES.body, delay_s=0.05))
    many = Images(torch.zeros(12, 3, 2, 2)), [Prompt("a cat")] * 12
    assert judge(chat, workers=3)(*many).valid.all() and chat.most_at_once == 3


def test_order_does_not_depend_on_who_is_first(chat: Chat) -> None:
    delays = {"a": 0.15, "b": 0.1, "c": 0.05, "d": 0.0}
    shares = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}

    def answer(request: dict) -> Say:
        name = request["messages"][1]["content"][-1]["text"].split("\n")[1]
        return Say(first_token({"yes": shares[name], "no": 1 - shares[name]}).body, delay_s=delays[name])

    chat.answer = answer
    assert judge(chat)(*FOUR).score.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_pixels_that_are_not_finite_are_not_shown(chat: Chat) -> None:
    chat.in_turn(YES)
    pixels = FOUR[0].pixels.clone()
    pixels[2, 0, 0, 0] = torch.nan
    output = judge(chat)(Images(pixels), FOUR[1])
    assert output.valid.tolist() == [True, True, False, True] and len(chat.requests) == 3
    nothing = judge(chat)(Images(torch.full((2, 3, 2, 2), torch.inf)), FOUR[1][:2])
    assert not nothing.valid.any() and len(chat.requests) == 3


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(
    chat: Chat, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("EYE_KEY", "sk-very-secret")
    chat.in_turn(YES, Say("wrong key: sk-very-secret", 401))
    reward = judge(chat, key_env="EYE_KEY")
    reward(*ONE)
    with caplog.at_level(logging.INFO), pytest.raises(JudgeFailure) as caught:
        reward(*ONE)
    assert chat.keys == ["Bearer sk-very-secret"] * 2 and chat.paths == ["/v1/chat/completions"] * 2
    seen = f"{caught.value} {caplog.text} {reward!r} {reward.spec!r} {pickle.dumps(reward)!r}"
    assert "secret" not in seen and "wrong key: ***" in str(caught.value)
    chat.in_turn(YES)
    judge(chat)(*ONE)
    assert chat.keys[-1] is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"url": "localhost:8000"}, "url must be like"),
        ({"url": "ftp://host/v1"}, "url must be like"),
        ({"url": "file:///etc/passwd"}, "url must be like"),
        ({"url": "http://"}, "url must be like"),
        ({"url": "http://host/v1?key=abc"}, "url must be like"),
        ({"url": "http://host:99999/v1"}, "url must be like"),
        ({"url": "http://me:word@host/v1"}, "url must be like"),
        ({"tries": 0}, "tries must be 1 or more, got 0"),
        ({"workers": -1}, "workers must be 1 or more, got -1"),
        ({"frames": 0}, "frames must be 1 or more, got 0"),
        ({"timeout_s": 0.0}, "timeout_s must be a positive number"),
        ({"timeout_s": float("nan")}, "timeout_s must be a positive number"),
        ({"key_env": "NO_SUCH_KEY_HERE"}, r"the environment variable NO_SUCH_KEY_HERE \(key_env\) holds no key"),
        ({"question": " "}, "question is empty"),
        ({"top": 1}, "top must be 2 to 20 tokens, got 1"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(settings: dict, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        VLMYesNo(**settings)
    assert "\n" not in str(caught.value)
    assert "word" not in str(caught.value).replace("password", "") and "abc" not in str(caught.value)


def test_a_key_that_would_break_a_header_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EYE_KEY", "abc\r\nX-Other: 1")
    with pytest.raises(UserError, match="holds no key") as caught:
        VLMYesNo(key_env="EYE_KEY")
    assert "abc" not in str(caught.value)


def test_a_key_in_the_clear_is_warned_of(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("EYE_KEY", "abc")
    VLMYesNo(url="http://127.0.0.1/v1", key_env="EYE_KEY")
    VLMYesNo(url="https://eye.example/v1", key_env="EYE_KEY")
    assert not caplog.messages
    VLMYesNo(url="http://eye.example/v1", key_env="EYE_KEY")
    assert caplog.messages == ["vlm: the key in EYE_KEY is sent unencrypted to eye.example"]


def test_certificates_are_verified() -> None:
    context = exchange._certificates()
    assert context.verify_mode == ssl.CERT_REQUIRED and context.check_hostname


def proxy(connection: socket.socket, number: int) -> None:
    """Answer as a service, or refuse a tunnel, and say in either case what was asked for."""
    head = connection.recv(65536).split(b"\r\n", 1)[0].decode()
    connection.sendall(http(403, head.encode()))


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("http://eye.example/v1", "POST http://eye.example/v1/chat/completions HTTP/1.1"),
        ("https://eye.example/v1", "403"),  # a tunnel that is refused
    ],
)
def test_a_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch, url: str, asked: str) -> None:
    with scripted(proxy) as (there, seen):
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, there)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "other.example")
        with pytest.raises(JudgeFailure, match=asked):
            VLMYesNo(url=url, tries=1)(*ONE)
        assert len(seen) == 1


def test_no_proxy_stands_before_this_machine(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    chat.in_turn(YES)
    with scripted(proxy) as (there, seen):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, there)
        assert judge(chat)(*ONE).valid.all() and not seen


def test_a_name_that_is_not_found_in_time_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    found = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found.wait(10))
    start = time.monotonic()
    with pytest.raises(JudgeFailure, match="gave no answer in time"):
        VLMYesNo(url="http://eye.example/v1", tries=1, timeout_s=0.3)(*ONE)
    assert time.monotonic() - start < 3
    found.set()


def test_waiting_leaves_the_users_random_numbers_alone(chat: Chat) -> None:
    random.seed(0)
    expected = random.Random(0).random()
    chat.in_turn(Say("busy", 500), YES)
    judge(chat)(*ONE)
    assert random.random() == expected


def test_waits_grow_and_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", waits.append)
    monkeypatch.setattr(service, "exchange", lambda *_: exchange.Reply(500, b"busy"))
    monkeypatch.setattr(patience._JITTER, "uniform", lambda low, high: high)
    outcome = Service("http://host/v1", "eye", "", 1, 1.0, 4, 1).chat({})
    assert waits == [1.0, 2.0, 4.0] and outcome.down and outcome.tries == 4
    assert Service("http://host/v1", "eye", "", 1, 1.0, 9, 1).chat({}).tries == 9 and waits[-1] == 128.0
