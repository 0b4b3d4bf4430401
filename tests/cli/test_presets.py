"""Every preset gives a valid run, and the command line takes it."""

from __future__ import annotations

import pytest

from limner.cli import main
from limner.policies.denoising import Sampler
from limner.recipes.named import recipe
from limner.recipes.presets import PRESETS, with_preset
from limner.recipes.yaml import from_yaml, to_yaml
from limner.registry.names import RECIPES


def denoises(name: str) -> bool:
    return recipe(name).source.draws and isinstance(recipe(name).sampler, Sampler)


@pytest.mark.parametrize("base", [name for name in RECIPES if denoises(name)])
@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_is_a_run(name, base):
    config = with_preset(recipe(base), name)
    assert type(config.algorithm).__name__ == PRESETS[name].keys["algorithm"] and from_yaml(to_yaml(config)) == config


def test_a_preset_without_a_window_learns_every_step_of_a_recipe_that_had_one():
    """A window over 20 steps is none over the preset's 10; and what is given by hand comes last."""
    assert recipe("sdxl").sampler.window == 1 and with_preset(recipe("sdxl"), "flow_grpo").sampler.window == 0
    assert with_preset(recipe("sdxl"), "flow_grpo", {"sampler.window": "2"}).sampler.window == 2


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_that_says_how_to_denoise_is_refused_for_tokens_with_the_way_out(name, capsys):
    assert main(["check", "scenes_tokens", "--preset", name]) == 2
    said = capsys.readouterr().err
    assert f"preset '{name}' sets sampler." in said and "the sampler here is TokenSampler; name the algorithm" in said


def test_a_preset_comes_before_the_other_keys(capsys):
    config = with_preset(recipe("scenes"), "dance_grpo", {"sampler.dynamics.eta": "0.5"})
    assert config.sampler.dynamics.eta == 0.5 and config.algorithm.ddof == 1
    assert main(["train", "scenes", "--preset", "dance"]) == 2
    assert "dance_grpo" in capsys.readouterr().err
    assert main(["list"]) == 0
    assert "dpok" in capsys.readouterr().out
