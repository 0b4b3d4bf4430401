"""A GAN's folder trains by every algorithm that scores decisions, and resumes and exports as any other model does."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import limner
from limner.algorithms.flow_grpo import FlowGRPO
from limner.algorithms.surrogate_gradient import SurrogateGradient
from limner.build import assemble
from limner.core.errors import UserError
from limner.models.gan.adapter import GAN
from limner.models.gan.settings import GANSettings
from limner.policies.one_step import OneStepSampler
from limner.registry.find import find
from limner.registry.names import ALGORITHMS
from limner.training.config import Evaluation, Full, Lora, Model, Optimizer, RunConfig
from limner.training.loop import Hooks, train
from limner.training.state import State
from toys import Silent

CHANCES = ["output", "latent", "noise"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("gan")
    GAN.tiny(made / "model")
    (made / "prompts.txt").write_text("a red star\nred red star\nstar\n")
    (made / "reward.py").write_text("def red(media, prompts):\n    return media.frames()[:, 0, 0].mean((1, 2))\n")
    return made


def config(place: Path, chance: Any) -> RunConfig:
    return RunConfig(
        name="gan",
        model=Model(path=str(place / "model"), settings=GANSettings(chance), train=Full()),
        prompts=str(place / "prompts.txt"),
        reward=f"{place}/reward.py:red",
        algorithm=FlowGRPO(clip_low=0.2, clip_high=0.2, clip_elements=1, kl_weight=0.01),
        sampler=OneStepSampler(chance, noise=0.3),
        optimizer=Optimizer(lr=1e-3),
        evaluation=Evaluation(seeds=1),
        steps=1,
        prompts_per_step=2,
        group_size=4,
        micro_batch=8,
        device="cpu",
    )


def ready(name: str) -> Any:
    """Return an algorithm that teaches from the first iteration."""
    algorithm = find(ALGORITHMS, "algorithm", name)()
    return replace(algorithm, least_order=0.0) if isinstance(algorithm, SurrogateGradient) else algorithm


@pytest.mark.parametrize("chance", CHANCES)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_algorithm_teaches_or_is_refused(place: Path, name: str, chance: str) -> None:
    """A surrogate that has not been asked to order well teaches at once."""
    settings, kept = replace(config(place, chance), algorithm=ready(name)), Silent()
    if not settings.algorithm.needs.path:
        with pytest.raises(UserError, match=f"{name} noises finished samples again, which .* cannot do: take"):
            assemble(settings)
        return
    assembly = assemble(settings)
    trained = assembly.parts.weights.parameters()
    before = [parameter.detach().clone() for parameter in trained.values()]
    train(settings, assembly.parts, State(), Hooks(kept, kept, lambda state: None, lambda state: {}))
    assert all(math.isfinite(value) for value in kept.metrics.values()), kept.metrics
    assert any(not torch.equal(a, b) for a, b in zip(before, trained.values(), strict=True))


@pytest.mark.parametrize("chance", CHANCES)
def test_a_run_resumes_bit_by_bit_and_exports_what_draws_its_samples(place: Path, tmp_path: Path, chance: str) -> None:
    """A LoRA where the generator, or a copy of it, learns, and the whole of what z is drawn from."""
    base = config(place, chance)
    both = replace(base, steps=2, checkpoint_every=1, out=str(tmp_path / "whole"))
    if chance != "latent":
        both = replace(both, model=replace(both.model, train=Lora(rank=2, alpha=4)))
    run = limner.train(both, quiet=True)
    whole = run.export()
    limner.train(replace(both, steps=1, out=str(tmp_path / "parts")), quiet=True)
    parts = limner.train(replace(both, out=str(tmp_path / "parts")), resume=True, quiet=True).export()
    file = f"{'diffusion_pytorch_model' if chance == 'latent' else 'pytorch_lora_weights'}.safetensors"
    one, two = (load_file(folder / file) for folder in (whole, parts))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    assert any(each.abs().sum() > 0 for name, each in one.items() if "lora_A" not in name)
    card = (whole / "README.md").read_text()
    assert "StableDiffusion3Pipeline.from_pretrained(" in card and "num_inference_steps=1" in card
    assert ("load_lora_weights" in card) == (chance != "latent") != ("Start.from_pretrained" in card)
    assert ("z = n + " in card) == (chance == "noise")
