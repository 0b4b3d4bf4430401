"""Surprise on a tiny V-JEPA 2: what it sees, what it is not shown, and the number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import VJEPA2Model

import tiny_vision
from limner.core.errors import UserError
from limner.core.media import Videos
from limner.core.types import Prompt
from limner.rewards.video.surprise import VideoSurprise, surprise
from limner.rewards.vision.weights import pretrained

SIZE = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("vjepa2")
    with torch.random.fork_rng():
        tiny_vision.vjepa2(place)
    return place


def frames(count: int = 8) -> Tensor:
    return torch.rand(2, count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(count))


def test_where_nothing_is_predicted_it_is_the_mean_size_of_normalised_features(folder: Path) -> None:
    """By a predictor that says b of everything: mean |n - b|, n the features with mean 0 and variance 1, by numpy."""
    model = VJEPA2Model.from_pretrained(folder).eval()
    torch.nn.init.zeros_(model.predictor.proj.weight)
    torch.nn.init.constant_(model.predictor.proj.bias, 0.25)
    clip = frames()
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        found = surprise(model, clip, 4)
        seen = model((clip - mean) / std, skip_predictor=True).last_hidden_state[:, 8:].double().numpy()
    normal = (seen - seen.mean(-1, keepdims=True)) / np.sqrt(seen.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(found, np.abs(normal - 0.25).mean((1, 2)), rtol=1e-5)


def test_what_is_predicted_does_not_know_what_comes(folder: Path) -> None:
    """Of clips that begin alike the same is predicted; transformers' own forward shows the encoder all of them."""
    model = VJEPA2Model.from_pretrained(folder).eval()
    said: list[Tensor] = []
    model.predictor.register_forward_hook(lambda module, given, output: said.append(output.last_hidden_state))
    clip, other = frames(), frames()
    other[:, 4:] = other[:, 4:].flip(1)
    with torch.no_grad():
        one, two = surprise(model, clip, 4), surprise(model, other, 4)
        places = torch.arange(16).expand(2, -1)
        for each in (clip, other):
            model(each, context_mask=[places[:, :8]], target_mask=[places[:, 8:]])
    assert torch.equal(said[0], said[1]) and not torch.equal(one, two)
    assert not torch.equal(said[2], said[3])


def test_as_a_reward(folder: Path) -> None:
    reward, prompts = VideoSurprise(model=str(folder)), [Prompt("a")] * 2
    clip = frames(9)  # the last one is no pair
    clip[1] = 0.5
    output = reward(Videos(clip, 8.0), prompts)
    with torch.no_grad():
        expected = -surprise(pretrained("video_surprise", "VJEPA2Model", str(folder)), clip[:1, :8], 4)
    assert output.valid.tolist() == [True, False] and output.score[0] < 0
    torch.testing.assert_close(output.score[:1], expected, atol=1e-5, rtol=0)
    with pytest.raises(UserError, match="reads 2 frames at a time, has 3 to cut at 0.5: give clips of 4 frames"):
        reward(Videos(frames(3), 8.0), prompts)
    with pytest.raises(UserError, match="context must be above 0 and below 1, got 1"):
        VideoSurprise(context=1.0)
    with pytest.raises(UserError, match="cannot load VJEPA2Model"):
        VideoSurprise(model=str(folder / "nothing"))(Videos(clip, 8.0), prompts)
