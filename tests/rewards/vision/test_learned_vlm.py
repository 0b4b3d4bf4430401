"""A vision-language model that learns what is preferred, by adapters and a head, on tiny random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoProcessor, LlavaForConditionalGeneration

import tiny_vision
from limner.core.errors import UserError
from limner.core.media import Images
from limner.core.types import Prompt
from limner.reward_models import train_reward
from limner.rewards.learned.design import Design
from limner.rewards.learned.folder import WEIGHTS, read_card
from limner.rewards.learned.reward import Learned
from limner.rewards.learned.vlm import ASKED, Vlm
from limner.training.reward_model import RewardTraining
from run.test_reward_models import SMALL, collection, greys


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llava")
    tiny_vision.llava(path)
    return path


def test_before_training_it_is_a_head_on_the_models_last_state(folder: Path) -> None:
    """Of each picture alone, as transformers computes it: neither the batch nor what fills it up changes it."""
    torch.manual_seed(0)
    vlm = Vlm(str(folder), 16, 4, 3)
    levels = (torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 255).byte()
    texts = ["a red cat", "dog"]
    told = vlm.judge(vlm.see(levels / 255), vlm.read(texts))
    model = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    for i, text in enumerate(texts):
        picture = Image.fromarray(levels[i].permute(1, 2, 0).numpy())
        inputs = processor(text="<image>" + ASKED.replace("{}", text), images=picture, return_tensors="pt")
        state = model(**inputs, output_hidden_states=True).hidden_states[-1][0, -1]
        torch.testing.assert_close(told[i], vlm.head.weight @ state + vlm.head.bias, rtol=1e-4, atol=1e-4)
    names = {name.split("/")[-4] for name in vlm.adapters}
    assert names == {"q_proj", "k_proj", "v_proj", "o_proj"} and not any("vision" in name for name in vlm.adapters)


def test_it_learns_and_keeps_no_more_than_adapters_and_head(folder: Path, tmp_path: Path) -> None:
    how = {**SMALL, "design.kind": "vlm", "design.network": str(folder), "design.rank": 2, "design.members": 1}
    place = train_reward(str(collection(tmp_path / "votes", 40, float)), tmp_path / "r", how | {"epochs": 6})
    assert read_card(place).measured["overall"]["accuracy"]["value"] > 0.75
    kept = load_file(place / WEIGHTS)
    assert all("lora_" in name or "head" in name or name.endswith("tie") for name in kept)
    assert any("lora_B" in name and tensor.abs().sum() > 0 for name, tensor in kept.items())
    judge = Learned(str(place))
    dark, light = judge(greys(40, 220), [Prompt("a thing 7")] * 2).score
    assert dark < light and not judge.spec.differentiable
    explained = Learned(str(place), explain=True)(Images(torch.zeros(1, 3, 16, 16)), [Prompt("a thing 7")])
    assert explained.maps["where"].isfinite().all() and "whatever is asked" in str(explained.explanation[0])


def test_it_needs_a_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="of kind vlm stands on a model: give its folder as --design.network"):
        Design(kind="vlm")
    tiny_vision.clip(tmp_path)
    with pytest.raises(UserError, match="learned: cannot load AutoProcessor from|learned: cannot load AutoModel"):
        Vlm(str(tmp_path), 16, 4, 1)
    assert RewardTraining().design.rank == 16
