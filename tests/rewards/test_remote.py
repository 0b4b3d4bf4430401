import dataclasses
import os
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from limner.core.errors import JudgeFailure, UserError
from limner.core.media import Images, Media
from limner.core.types import Prompt, RewardOutput
from limner.judging.checked import Checked
from limner.judging.exchange import address
from limner.judging.wire import Limits
from limner.rewards.jpeg_size import jpeg_size
from limner.rewards.remote import Remote
from limner.worlds.scenes import prompts as scene_prompts
from limner.worlds.scenes.grammar import Scene
from limner.worlds.scenes.render import render
from limner.worlds.scenes.reward import scenes
from serving import hosted

MEDIA = Images(torch.rand(7, 3, 9, 8, generator=torch.Generator().manual_seed(3)) * 1.2 - 0.1)
PROMPTS = [Prompt(f"text {i}", {"i": i}) for i in range(7)]


def same(a: RewardOutput, b: RewardOutput) -> None:
    """Fail unless two answers are equal to the bit (NaN where NaN)."""
    pairs = [(a.score, b.score), *((a.components[name], b.components[name]) for name in b.components)]
    assert a.components.keys() == b.components.keys() and torch.equal(a.valid, b.valid)
    assert all(torch.equal(x.nan_to_num(9e9), y.nan_to_num(9e9)) and x.dtype == y.dtype for x, y in pairs)


@pytest.mark.parametrize("micro_batch", [1, 3, 16])
def test_scores_are_those_of_the_judge_in_this_process(micro_batch: int) -> None:
    with hosted(jpeg_size) as url:
        there = Checked("there", Remote(url=url, micro_batch=micro_batch))(MEDIA, PROMPTS)
    same(there, Checked("here", jpeg_size)(MEDIA, PROMPTS))


def test_a_judge_that_reads_meta_says_the_same_from_afar() -> None:
    asked = scene_prompts("train", 3)[:20]
    rng = np.random.default_rng(0)
    drawn = np.stack([render(Scene.from_dict(prompt.meta["scene"]), rng) for prompt in asked])
    pixels = torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 255
    media = Images(torch.cat([pixels[:10], pixels[10:].flip(0)]))  # half of them show another scene
    with hosted(scenes) as url:
        there = Checked("there", Remote(url=url, micro_batch=7))(media, asked)
    here = Checked("here", scenes)(media, asked)
    same(there, here)
    assert 10 <= here.score.sum() < 20 and set(here.components) == {"count", "colour", "shape", "position", "fraction"}


def test_some_samples_fail_and_the_others_do_not() -> None:
    def picky(media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        odd = torch.tensor([prompt.meta["i"] % 2 == 1 for prompt in prompts])
        index = torch.tensor([float(prompt.meta["i"]) for prompt in prompts])
        return RewardOutput(index, odd, {"i": index}, index / 8, [str(prompt.meta["i"]) for prompt in prompts])

    with hosted(picky) as url:
        output = Remote(url=url, micro_batch=2)(MEDIA, PROMPTS)
    assert output.valid.tolist() == [False, True] * 3 + [False] and output.score[output.valid].tolist() == [1, 3, 5]
    assert output.components["i"].tolist() == list(range(7)) and output.explanation == tuple("0123456")
    assert output.uncertainty is not None and output.uncertainty.tolist() == [i / 8 for i in range(7)]


def test_no_more_than_in_flight_at_once_and_order_is_kept() -> None:
    now, most, lock = [0], [0], threading.Lock()

    def slow(media: Media, prompts: Sequence[Prompt]) -> Tensor:
        time.sleep(0.02)
        return torch.tensor([float(prompt.meta["i"]) for prompt in prompts])

    def watching(media: Media, prompts: Sequence[Prompt]) -> Tensor:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        answer = slow(media, prompts)
        with lock:
            now[0] -= 1
        return answer

    with hosted(watching) as one, hosted(watching) as two, hosted(watching) as three:
        output = Remote(url=f"{one}, {two},{three}", in_flight=2, micro_batch=1)(MEDIA, PROMPTS)
    assert output.score.tolist() == list(range(7)) and most[0] == 2  # each host alone judges one at a time


def test_nothing_is_asked_about_no_samples() -> None:
    output = Remote(url="http://127.0.0.1:9")(Images(MEDIA.pixels[:0]), [])
    assert len(output.score) == 0 and len(output.valid) == 0


def test_the_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_TOKEN", "s3cret")
    with hosted(jpeg_size, token="s3cret") as url:
        right = Remote(url=url, token_env="JUDGE_TOKEN")
        assert right(MEDIA, PROMPTS).valid.all() and "s3cret" not in repr(right)
        with pytest.raises(UserError, match=r"127.0.0.1:\d+: HTTP 401: a bearer token is needed"):
            Remote(url=url)(MEDIA, PROMPTS)
    monkeypatch.delenv("JUDGE_TOKEN")
    with pytest.raises(UserError, match=r"the environment variable 'JUDGE_TOKEN' \(token_env\) holds no token; set it"):
        Remote(token_env="JUDGE_TOKEN")


def test_what_the_server_will_never_judge_stops_with_its_words() -> None:
    def refusing(media: Media, prompts: Sequence[Prompt]) -> Tensor:
        raise UserError("'text 0' is no scene")

    with hosted(refusing) as url, pytest.raises(UserError, match="HTTP 422: 'text 0' is no scene"):
        Remote(url=url)(MEDIA, PROMPTS)
    with hosted(jpeg_size, limits=Limits(prompt_chars=3)) as url, pytest.raises(UserError, match="HTTP 413: item 0"):
        Remote(url=url)(MEDIA, PROMPTS)
    with (
        hosted(jpeg_size, limits=Limits(body_bytes=100)) as url,
        pytest.raises((UserError, JudgeFailure), match="HTTP 413: a body of at most 100|Broken|reset"),
    ):
        Remote(url=url, tries=1)(MEDIA, PROMPTS)
    with hosted(jpeg_size) as url, pytest.raises(UserError, match="HTTP 404"):
        Remote(url=f"{url}/elsewhere")(MEDIA, PROMPTS)


def test_all_servers_must_host_the_same_reward() -> None:
    with hosted(jpeg_size) as one, hosted(scenes) as other:
        reward = Remote(url=one)
        reward(MEDIA, PROMPTS)
        reward._service.servers[0].address = address(other, "remote")  # as if it had been restarted with another reward
        small = Images(torch.full((1, 3, 64, 64), 1.0))
        with pytest.raises(UserError, match="answers as reward '.*', before it was '.*': give all servers one reward"):
            reward(small, [Prompt("a red circle")])


def test_gradients_and_the_global_random_state_stay_as_they_are() -> None:
    pixels = MEDIA.pixels.clone().requires_grad_()
    state = torch.random.get_rng_state()
    with hosted(jpeg_size) as url:
        assert not Remote(url=url)(Images(pixels), PROMPTS).score.requires_grad
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"url": ""}, "url must be like"),
        ({"url": "127.0.0.1:8000"}, "url must be like"),
        ({"url": "ftp://host"}, "url must be like"),
        ({"url": "http://me:word@host"}, "url must be like"),
        ({"url": "http://host:99999"}, "url must be like"),
        ({"url": "http://host?x=1"}, "url must be like"),
        ({"url": "http://host,"}, "url must be like"),
        ({"url": "http://host/a\r\nX: y"}, "url must be like"),
        ({"timeout": 0.0}, "timeout must be a positive number"),
        ({"timeout": float("inf")}, "timeout must be a positive number"),
        ({"timeout": float("nan")}, "timeout must be a positive number"),
        ({"in_flight": 0}, "in_flight must be a whole number of 1 or more, got 0"),
        ({"micro_batch": 2.5}, "micro_batch must be a whole number of 1 or more, got 2.5"),
        ({"tries": 0}, "tries must be"),
        ({"budget": 0}, "budget must be"),
        ({"on_failure": "zero"}, "on_failure must be 'drop' or 'required', got 'zero'"),
    ],
)
def test_settings_that_cannot_work_are_refused_early(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Remote(**settings)


def test_it_is_its_settings() -> None:
    assert Remote(timeout=2.0) == Remote(timeout=2.0) != Remote(timeout=3.0)
    assert dataclasses.replace(Remote(), tries=2) == Remote(tries=2) and Remote().spec.name == "remote"
    assert str(address("https://host:1/a/b/", "remote")) == "https://host:1/a/b" and not Remote().spec.deterministic
    assert os.environ.get("JUDGE_TOKEN") is None
