"""A run's configuration survives its file exactly."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import examples
from limner.core.errors import UserError
from limner.recipes.override import override
from limner.recipes.yaml import from_yaml, to_yaml
from limner.training.config import Evaluation, Lora, Model, Optimizer, RunConfig

CONFIG = RunConfig(name="x", prompts="p.txt", reward="0.1 * jpeg_size + f.py:g")


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"algorithm": "DiffusionNFT"},
        {"sampler.dynamics": "CPS", "sampler.dynamics.noise-level": "0.123456789012345678"},
        {"model.train": "Full"},
        {"model.train.targets": "to_q,to_k", "optimizer.betas": "0.8,0.95", "optimizer.lr": "1e-5"},
        {"model.settings.max-sequence-length": "0"},
        {"model.kind": "sd", "model.path": "nowhere", "model.settings.negative-prompt": "a sea"},
        {"name": "yes", "out": "null", "prompts": "ü: {}\n#", "model.path": "1e3"},
    ],
)
def test_round_trip(values: dict[str, str]) -> None:
    config = override(CONFIG, values)
    assert from_yaml(to_yaml(config)) == config


@examples(40)
@given(
    name=st.text(min_size=1, max_size=100).filter(lambda text: text.isprintable() and text.strip()),
    lr=st.floats(min_value=1e-300, max_value=0.99),
    targets=st.lists(st.text()),
    weight=st.floats(-1000, 1000),
    seed=st.integers(min_value=0, max_value=2**62),
)
def test_round_trip_of_any_value(name: str, lr: float, targets: list[str], weight: float, seed: int) -> None:
    lora = Lora(targets=tuple(targets))
    config = replace(
        CONFIG,
        name=name,
        seed=seed,
        model=Model(train=lora),
        optimizer=Optimizer(lr=lr),
        evaluation=Evaluation(guidance=weight),
    )
    assert from_yaml(to_yaml(config)) == config


def test_how_rewards_are_compared_is_said_by_the_reward() -> None:
    """What an earlier version wrote of a sum is read, and of another way one line says what to write."""
    assert from_yaml(f"{to_yaml(CONFIG)}aggregation: sum\n") == CONFIG
    with pytest.raises(UserError, match=r"^old.yaml: aggregation is said by the reward now: .* 'group\(a\)"):
        from_yaml(f"{to_yaml(CONFIG)}aggregation: win_rate\n", "old.yaml")


def test_a_choice_of_classes_is_named() -> None:
    tree = yaml.safe_load(to_yaml(CONFIG))
    assert tree["algorithm"]["type"] == "FlowGRPO"
    assert tree["sampler"]["dynamics"]["type"] == type(CONFIG.sampler.dynamics).__name__
    assert "type" not in tree["optimizer"]


def test_missing_keys_have_their_defaults_and_numbers_may_be_written_as_people_do() -> None:
    config = from_yaml("name: x\noptimizer: {lr: 1e-3}\nalgorithm: DiffusionNFT\n")
    assert config.optimizer == Optimizer(lr=1e-3) and type(config.algorithm).__name__ == "DiffusionNFT"
    assert config.sampler == RunConfig(name="x").sampler


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "here is not a run's configuration: it holds no keys"),
        ("- a", "here is not a run's configuration: it holds no keys"),
        ("steps: 3", "here: name is missing, and has no default"),
        ("name: 3", "here: name needs text, got 3"),
        ("name: x\nstepz: 3", "here: unknown key stepz; the nearest known key is steps"),
        ("name: x\nsampler: {stepz: 3}", "here: unknown key sampler.stepz: sampler is Sampler; "),
        ("name: x\nsteps: 1.5", "here: steps needs an integer, got 1.5"),
        ("name: x\nsteps: {}", "here: steps needs an integer, got {}"),
        ("name: x\nalgorithm: {type: FlowGRP}", "here: algorithm cannot be 'FlowGRP'; did you mean 'FlowGRPO'?"),
        ("name: x\nalgorithm: {type: [1]}", "here: algorithm cannot be '[1]'"),
        ("name: x\nreward: 3", "here: reward needs text, got 3"),
        ("name: x\n1: 3", "here: unknown key 1; "),
        ("name: x\n  y: [", "here is not YAML, line 2: "),
        ("name: \x01", "here is not YAML: "),
    ],
)
def test_errors(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        from_yaml(text, "here")
    assert str(caught.value).startswith(message)
