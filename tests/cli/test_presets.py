"""Every preset gives a valid run, and the command line takes it."""

from __future__ import annotations

import pytest

from limner.cli import main
from limner.recipes.named import recipe
from limner.recipes.presets import PRESETS, with_preset
from limner.recipes.yaml import from_yaml, to_yaml
from limner.registry.names import RECIPES


@pytest.mark.parametrize("base", [name for name in RECIPES if recipe(name).source.draws])
@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_is_a_run(name, base):
    config = with_preset(recipe(base), name)
    assert type(config.algorithm).__name__ == PRESETS[name].keys["algorithm"] and from_yaml(to_yaml(config)) == config


def test_a_preset_comes_before_the_other_keys(capsys):
    config = with_preset(recipe("scenes"), "dance_grpo", {"sampler.dynamics.eta": "0.5"})
    assert config.sampler.dynamics.eta == 0.5 and config.algorithm.ddof == 1
    assert main(["train", "scenes", "--preset", "dance"]) == 2
    assert "dance_grpo" in capsys.readouterr().err
    assert main(["list"]) == 0
    assert "dpok" in capsys.readouterr().out
