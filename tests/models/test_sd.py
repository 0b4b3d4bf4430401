"""The Stable Diffusion adapter against unmodified diffusers pipelines, on a miniature of 1.5, 2.1 and XL each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, FlowMatchEulerDiscreteScheduler, UNet2DConditionModel
from peft import LoraConfig
from safetensors.torch import load_file
from torch import Tensor

from limner.core.errors import UserError
from limner.core.rng import Rng
from limner.core.types import Prompt
from limner.diffusion.dynamics import DDIM
from limner.models.sd.adapter import SD
from limner.models.sd.settings import SDSettings
from limner.models.sd3.adapter import SD3
from limner.policies.denoising import Sampler

TEXTS = ["a red star", "star red red"]
KINDS = ["sd15", "sd21", "sdxl"]


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    SD.tiny(request.param, folder)
    return folder


@pytest.fixture(scope="module")
def adapter(folder: Path) -> SD:
    return SD.load(folder)


@pytest.fixture
def plain(folder: Path) -> Any:
    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def prediction(adapter: SD) -> Tensor:
    x = torch.randn(3, *adapter.latent().shape, generator=torch.Generator().manual_seed(0))
    condition = adapter.encode([Prompt(text) for text in TEXTS])
    with torch.no_grad():
        return adapter.predict(x, torch.tensor([0.002, 0.5, 1.0]), condition, torch.tensor([0, 1, 2]))


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_ddim_draws_the_picture_of_the_unmodified_pipeline(adapter: SD, plain: Any, guidance: float) -> None:
    policy, index = Sampler(DDIM(0.0), 4, guidance=guidance).policy(adapter), torch.arange(2)
    with torch.no_grad():
        condition = adapter.encode([Prompt(text) for text in TEXTS])
        drawn = policy.sample(condition, index, index, index, rng=Rng((0,)), record=False).sample
        pixels = adapter.decode(drawn).pixels
        noise = Rng((0,)).child("noise").normal(index, (1, *adapter.latent().shape))[:, 0]
        expected = plain(
            TEXTS, latents=noise, num_inference_steps=4, guidance_scale=guidance, eta=0.0, output_type="pt"
        ).images
    assert expected.std() > 0.01
    torch.testing.assert_close(pixels, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_pictures_of_each_size_are_those_of_the_unmodified_pipeline(adapter: SD, plain: Any, guidance: float) -> None:
    """With texts that were encoded once, whatever the size; XL is told that of the picture, and draws by it."""
    sizes, index = ((48, 32), (32, 48), (64, 64)), torch.arange(2)
    sampler = Sampler(DDIM(0.0), 4, guidance=guidance, sizes=tuple(f"{height}x{width}" for height, width in sizes))
    policy, condition = sampler.policy(adapter), adapter.encode([Prompt(text) for text in TEXTS])
    for iteration, (height, width) in enumerate(sizes):
        with torch.no_grad():
            drawn = policy.at(iteration).sample(condition, index, index, index, rng=Rng((0,)), record=False).sample
            pixels = adapter.decode(drawn).pixels
        assert pixels.shape[-2:] == (height, width)
        noise = Rng((0,)).child("noise").normal(index, (1, *drawn.shape[1:]))[:, 0]
        call = {"latents": noise, "num_inference_steps": 4, "guidance_scale": guidance, "eta": 0.0, "output_type": "pt"}
        expected = plain(TEXTS, height=height, width=width, **call).images
        torch.testing.assert_close(pixels, expected, atol=1e-4, rtol=0)
        if adapter.is_xl:
            call |= {"original_size": (1024, 16), "target_size": (1024, 16)}
            other = plain(TEXTS, height=height, width=width, **call).images
            assert (pixels - other).abs().max() > 1e-3


def test_a_stochastic_step_is_that_of_diffusers(adapter: SD, plain: Any) -> None:
    """Mean and std of DDIM(1) between two of the scheduler's own timesteps."""
    scheduler = plain.scheduler
    scheduler.set_timesteps(5)
    timestep = int(scheduler.timesteps[1])
    x = torch.randn(2, *adapter.latent().shape, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    condition, index = adapter.encode([Prompt(text) for text in TEXTS]), torch.arange(2)
    t, s = (adapter.times(5)[k].expand(2) for k in (1, 2))
    with torch.no_grad():
        output = adapter.predict(x, t, condition, index)
        expected = scheduler.step(output, timestep, x, eta=1.0, variance_noise=noise).prev_sample
        policy = Sampler(DDIM(1.0), 5).policy(adapter)
        _, step = policy.step(x, (t, s), condition, index, torch.ones(2, dtype=torch.bool))
    torch.testing.assert_close(step.sample(noise), expected, atol=2e-5, rtol=1e-4)


def test_times_are_the_schedulers_timesteps(adapter: SD, plain: Any) -> None:
    for steps in (1, 4, 10, 50):
        plain.scheduler.set_timesteps(steps)
        index = adapter.schedule.index(adapter.times(steps))
        assert torch.equal(index[:-1], plain.scheduler.timesteps)
        assert index[-1] == (-1 if plain.scheduler.config.set_alpha_to_one else 0)


def test_rows_are_the_pipelines_own_encoding(adapter: SD, plain: Any) -> None:
    condition = adapter.encode([Prompt(text) for text in TEXTS])
    for row, text in enumerate(TEXTS):
        own = plain.encode_prompt(text, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True)
        torch.testing.assert_close(condition["context"][row], own[0][0])
        torch.testing.assert_close(condition["context"][-1], own[1][0])
        if adapter.is_xl:
            torch.testing.assert_close(condition["pooled"][row], own[2][0])
            assert not condition["pooled"][-1].any() and condition.keys() == {"context", "pooled"}


def test_an_exported_lora_is_the_same_in_plain_diffusers(adapter: SD, plain: Any, tmp_path: Path) -> None:
    """Alpha is three times the rank; a reader of the tensors alone, who knows of no alpha, gets the same."""
    unet = UNet2DConditionModel.from_config(plain.unet.config)
    unet.load_state_dict(plain.unet.state_dict())
    config = LoraConfig(r=2, lora_alpha=6, target_modules=list(SD.lora_targets), init_lora_weights=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet.add_adapter(config, "default")
    trained = adapter.with_networks({"unet": unet.eval()})
    before = prediction(trained)
    trained.export_lora(tmp_path / "lora")
    trained.export_full(tmp_path / "full")
    plain.load_lora_weights(tmp_path / "lora")
    assert (before - prediction(adapter)).abs().max() > 1e-2
    torch.testing.assert_close(prediction(SD.wrap(plain)), before, atol=1e-5, rtol=1e-5)
    plain.unload_lora_weights()
    (file,) = (tmp_path / "lora").glob("*.safetensors")
    plain.load_lora_weights(load_file(file))
    torch.testing.assert_close(prediction(SD.wrap(plain)), before, atol=1e-5, rtol=1e-5)
    full = UNet2DConditionModel.from_pretrained(tmp_path / "full")
    torch.testing.assert_close(prediction(adapter.with_networks({"unet": full})), before, atol=1e-5, rtol=1e-5)
    assert torch.equal(prediction(trained), before)


def test_the_chain_and_the_prediction_are_the_pipelines(folder: Path, adapter: SD, plain: Any) -> None:
    assert adapter.prediction == ("v_prediction" if "sd21" in folder.name else "noise")
    assert torch.equal(adapter.schedule.alphas_cumprod, plain.scheduler.alphas_cumprod)
    for name in ("unet", "vae", "text_encoder"):
        assert all(p.requires_grad == (name == "unet") for p in getattr(adapter.pipeline, name).parameters())


def test_what_cannot_work_is_refused(folder: Path, adapter: SD, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="resolution is 24 pixels; give a multiple of 16"):
        SD.wrap(adapter.pipeline, SDSettings(resolution=24))
    with pytest.raises(UserError, match="is a StableDiffusion.*Pipeline, and the sd3 adapter serves"):
        SD3.load(folder)
    SD3.tiny(tmp_path)
    with pytest.raises(UserError, match="serves a StableDiffusionPipeline or StableDiffusionXLPipeline; give one"):
        SD.load(tmp_path)
    pipeline = SD.tiny("sd15").pipeline
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler()
    with pytest.raises(
        UserError, match="scheduler is a FlowMatchEulerDiscreteScheduler; limner serves a DDIMScheduler or"
    ):
        SD.wrap(pipeline)


def test_another_resolution(folder: Path) -> None:
    wide = SD.load(folder, SDSettings(resolution=64))
    assert wide.latent().shape == (4, 8, 8) and prediction(wide).shape == (3, 4, 8, 8)


def test_a_linear_grid_is_equal_steps_to_clean_data(adapter: SD) -> None:
    assert adapter.times(4, "linear").tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert adapter.times(3, "linear").tolist() == pytest.approx([1.0, 0.667, 0.333, 0.0], abs=1e-3)
