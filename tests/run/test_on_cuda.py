"""A run on an accelerator, from its first check to its export, is the run on the CPU."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest
import torch
from PIL import Image

from golden.curves import ORACLES, Curve, curve, oracle_config
from limner.algorithms.ddpo import DDPO
from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.algorithms.flow_grpo import FlowGRPO
from limner.build import assemble
from limner.core.quiet import no_bars
from limner.core.types import LossOutput
from limner.diffusion.dynamics import DDIM, EulerODE, FlowSDE
from limner.engine.encoders import Encoding, visiting
from limner.engine.optim import Stepper
from limner.learning.passes import OptimizerStep
from limner.models.sd.adapter import SD
from limner.models.sd3.settings import SD3Settings
from limner.policies.denoising import Sampler
from limner.report.metrics import read
from limner.run import Run, open_run, train
from limner.training.config import DataAnchor, Evaluation, Full, Lora, Model, Optimizer, Precision
from pretended_cuda import WAITED, pretended_cuda
from run.miniature import Miniature

Changes = dict[str, Any]


@pytest.mark.parametrize("name", ORACLES)
def test_every_algorithm_learns_there_as_on_the_cpu(name: str) -> None:
    config = replace(oracle_config(name), steps=2, prompts_per_step=2)
    expected = curve(config)
    with pretended_cuda():
        found = curve(replace(config, device="cuda"))
    require_equal(found, expected)


@pytest.mark.parametrize("name", ["Flow-GRPO, window", "BranchGRPO", "PPO"])
def test_what_waits_on_the_host_teaches_the_same(name: str) -> None:
    config = replace(oracle_config(name), steps=2, prompts_per_step=2)
    assert isinstance(config.sampler, Sampler) and config.algorithm.needs.path
    expected = curve(config)
    with pretended_cuda():
        found = curve(replace(config, device="cuda", sampler=replace(config.sampler, keep="host")))
    require_equal(found, expected)


def anchored(miniature: Miniature, folder: Path) -> Changes:
    """LoRA with an old policy, a reference and an average, pictures beside, and judges at work while it draws."""
    Image.new("RGB", (32, 32), "red").save(folder / "0.png")
    (folder / "metadata.jsonl").write_text('{"file_name": "0.png", "prompt": "a red star"}\n')
    anchor, optimizer = DataAnchor(str(folder), weight=0.1, batch=4), Optimizer(lr=1e-2, ema=0.5)
    algorithm = DiffusionNFT(num_times=2, decay_rate=0.2)
    evaluation = Evaluation(str(miniature.prompts), seeds=1, ode_steps=2, guidance=2.0, every=1)
    made = {"algorithm": algorithm, "overlap": True, "optimizer": optimizer, "anchor": anchor}
    return made | {"evaluation": evaluation}


def full(miniature: Miniature, folder: Path) -> Changes:
    """All weights with a copy for reference, a window, guidance, and a judge that fails now and then."""
    sampler = Sampler(FlowSDE(), 4, window=1, window_range=(0, 2), guidance=1.5)
    model = Model("sd3", str(miniature.model), SD3Settings(max_sequence_length=0), Full())
    return {"algorithm": FlowGRPO(kl_weight=0.01), "sampler": sampler, "model": model, "judge": "sometimes"}


def half(miniature: Miniature, folder: Path) -> Changes:
    """bfloat16, with activations computed again under the adapter of the time."""
    algorithm, precision = DiffusionNFT(num_times=2), Precision("bfloat16", activation_checkpointing=True)
    return {"algorithm": algorithm, "sampler": Sampler(EulerODE(), 4), "precision": precision}


def unet(miniature: Miniature, folder: Path) -> Changes:
    """A UNet, scored on its path."""
    with no_bars():
        SD.tiny("sd15", folder / "model")
    model = Model("sd", str(folder / "model"), None, Lora(2, 4))
    return {"algorithm": DDPO(num_updates=2), "sampler": Sampler(DDIM(), 4), "model": model}


@pytest.mark.parametrize("changes", [anchored, full, half, unet])
def test_a_whole_run_there_is_the_run_on_the_cpu(
    changes: Callable[[Miniature, Path], Changes], miniature: Miniature, tmp_path: Path
) -> None:
    """Checked, measured, interrupted, resumed, measured again, reported, exported, opened again and drawn from."""
    evaluation = Evaluation(str(miniature.prompts), seeds=1, every=1)
    made = {"steps": 2, "evaluation": evaluation, **changes(miniature, tmp_path)}
    config = miniature.config(tmp_path / "cpu", made.pop("judge", "redness"), **made)
    expected = train(config, quiet=True)
    with pretended_cuda():
        there = replace(config, device="cuda", out=str(tmp_path / "cuda"))
        with mock.patch.object(Run, "curve", second_time_interrupted(Run.curve)), pytest.raises(KeyboardInterrupt):
            train(there, quiet=True)
        train(there, resume=True, quiet=True)
        found = open_run(tmp_path / "cuda")
        assert {p.device.type for p in found.assembly.parts.weights.parameters().values()} == {"cuda"}
        assert all(p.dtype == torch.float32 for p in found.assembly.parts.weights.parameters().values())
        pictures = found.sample("a red star", 2).media.pixels
        model = found.assembly.model
        assert isinstance(model, Encoding) and {encoder.device.type for encoder in model.encoders} == {"cpu"}
        assert pictures.device.type == "cpu"
        found.export(tmp_path / "exported")
    torch.testing.assert_close(pictures, expected.sample("a red star", 2).media.pixels, atol=2 / 255, rtol=0)
    for one, two in zip(read(tmp_path / "cuda"), read(tmp_path / "cpu"), strict=True):
        require_equal(one, two)
    for name in ("before", "after"):
        one, two = (json.loads((tmp_path / place / "summary.json").read_text()) for place in ("cuda", "cpu"))
        assert one["heldout"][name] == pytest.approx(two["heldout"][name], rel=1e-3, abs=1e-6)
    assert sorted(p.name for p in (tmp_path / "exported").rglob("*.safetensors"))


def test_text_encoders_come_to_a_card_to_encode_or_never(miniature: Miniature, tmp_path: Path) -> None:
    """A model that is loaded there has them on the CPU, so that they are never beside all else unasked."""
    for place in ("device", "cpu"):
        model = Model("sd3", str(miniature.model), SD3Settings(max_sequence_length=0), encoders=place)
        config = replace(miniature.config(tmp_path / place, "redness", model=model), device="cuda")
        with pretended_cuda(), mock.patch("limner.build.visiting", wraps=visiting) as come:
            made = assemble(config)
            encoders = cast(Encoding, made.model).encoders
            assert {each.device.type for each in encoders} == {"cpu"} and made.model.latent().device.type == "cuda"
            made.parts.studio.cache.condition(made.parts.studio.prompts[:1])
        assert come.call_args.args[0] == (encoders if place == "device" else ())


def second_time_interrupted(curve: Callable[..., Any]) -> Callable[..., Any]:
    calls: list[int] = []

    def interrupted(*args: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return curve(*args, **named)

    return interrupted


def require_equal(one: Curve | dict[str, float], two: Curve | dict[str, float]) -> None:
    assert one.keys() == two.keys()
    for name, value in two.items():
        if not name.startswith("seconds/"):
            assert one[name] == pytest.approx(value, rel=1e-3, abs=1e-6, nan_ok=True), name


@pytest.mark.parametrize("name", ORACLES)
def test_the_passes_of_an_update_wait_for_nothing(name: str) -> None:
    """From the first pass of an optimizer step until it is taken, the card is told things and asked nothing."""
    config = replace(oracle_config(name), steps=1, prompts_per_step=2, device="cuda")
    found: list[str] = []
    taken: list[int] = []

    def begun(step: OptimizerStep, total: float) -> Iterator[LossOutput]:
        WAITED.clear()
        yield from shares(step, total)

    def ended(stepper: Stepper) -> float | None:
        found.extend(WAITED)
        taken.append(1)
        return take(stepper)

    shares, take = OptimizerStep.shares, Stepper.step
    watched = mock.patch.object(OptimizerStep, "shares", begun), mock.patch.object(Stepper, "step", ended)
    with pretended_cuda(), watched[0], watched[1]:
        curve(config)
    assert not found and bool(taken) == (not config.algorithm.needs.own_update)
