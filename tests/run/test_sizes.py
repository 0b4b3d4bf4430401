"""Pictures of several sizes in one run: an iteration has one, and it is drawn as a model of that size draws it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

import limner
from limner.core.errors import UserError
from limner.core.rng import Rng
from limner.core.types import Prompt
from limner.diffusion.dynamics import EulerODE, FlowSDE
from limner.models.sd.adapter import SD
from limner.models.wan.adapter import Wan
from limner.models.wan.build import tiny_beside, tiny_experts, tiny_pipeline
from limner.policies.denoising import Sampler
from piped_cases import CASES
from run.miniature import FLOW_GRPO, Miniature, differences, last_checkpoint

SHAPES = ((32, 16), (16, 32), (32, 32))
"""Height and width."""


def models(name: str) -> Callable[..., Any]:
    """Return what makes a model of a kind with random weights, always the same, with settings of its own or others."""
    if name == "wan":
        return lambda settings=None: Wan.wrap(tiny_pipeline(), settings or Wan.tiny().settings)
    if name == "wan experts":
        return lambda settings=None: Wan.wrap(tiny_experts(), settings or Wan.tiny().settings)
    return CASES[name].model


NAMES = ["flux", "qwen_image", "mochi", "cog_video", "hunyuan_video", "lumina2-dynamic", "wan", "wan experts", "ltx"]


@pytest.mark.parametrize("name", NAMES)
def test_an_iteration_is_drawn_as_by_a_model_of_its_size(name: str) -> None:
    """To the bit, shifts that follow the number of tokens too; and any size is read by the model as it is."""
    make, index = models(name), torch.arange(2)
    model, scale = make(), 2 if name == "ltx" else 1  # whose latents are of 32 x 32 pixels, where others' are of 16
    sizes = [(scale * height, scale * width) for height, width in (SHAPES[i] for i in (0, 1, 2, 0))]
    policy = Sampler(EulerODE(), 2, sizes=tuple(f"{height}x{width}" for height, width in sizes[:3])).policy(model)
    with torch.no_grad():
        condition = model.encode([Prompt("a red star"), Prompt("two stars")])
        for iteration, (height, width) in enumerate(sizes):
            other = make(replace(model.settings, resolution=height, width=width))
            plain = Sampler(EulerODE(), 2).policy(other)
            found, expected = (
                each.sample(condition, index, index, index, rng=Rng((0,)), record=False).sample
                for each in (policy.at(iteration), plain)
            )
            assert found.shape[1:] == other.latent().shape and torch.equal(found, expected)
            t = torch.tensor([0.5, 0.9])
            assert torch.equal(model.predict(found, t, condition, index), other.predict(found, t, condition, index))


def test_a_run_of_several_sizes_goes_on_to_the_bit(miniature: Miniature, tmp_path: Path) -> None:
    sampler = Sampler(FlowSDE(), steps=3, sizes=("32x16", "16x32"))
    whole = miniature.config(tmp_path / "whole", **{**FLOW_GRPO, "sampler": sampler})
    limner.train(whole)
    part = replace(whole, out=str(tmp_path / "part"))
    limner.train(replace(part, steps=1))
    limner.train(part, resume=True)
    assert not differences(last_checkpoint(tmp_path / "whole"), last_checkpoint(tmp_path / "part"))


def test_what_is_no_size_is_refused() -> None:
    with pytest.raises(UserError, match="HEIGHTxWIDTH, as in 768x512, got 'large'"):
        Sampler(sizes=("large",)).policy(CASES["flux"].model())
    with pytest.raises(UserError, match="width is 36 pixels; give a multiple of 16"):
        Sampler(sizes=("32x36",)).policy(CASES["flux"].model())
    with pytest.raises(UserError, match="width is 24 pixels; give a multiple of 16"):
        Sampler(sizes=("32x24",)).policy(Wan.tiny())
    with pytest.raises(UserError, match="transformer has places for 64 patches"):
        Sampler(sizes=("32x1056",)).policy(Wan.tiny())
    with pytest.raises(UserError, match="WanImageToVideoPipeline reads what prompts bring along at one size"):
        Sampler(sizes=("32x48",)).policy(Wan.wrap(tiny_beside(), Wan.tiny().settings))
    with pytest.raises(UserError, match="object draws pictures of one size"):
        Sampler(sizes=("32x32",)).policy(cast(Any, object()))
    with pytest.raises(UserError, match="width is 36 pixels; give a multiple of 16"):
        Sampler(sizes=("32x36",)).policy(SD.tiny("sdxl"))
    with pytest.raises(UserError, match="sampler.sizes make latents of several shapes, and PPO knows one"):
        limner.RunConfig(name="a", algorithm=limner.PPO(), sampler=Sampler(sizes=("32x32",)))
