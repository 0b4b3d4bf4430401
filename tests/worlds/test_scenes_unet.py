"""The UNet base that ships: unmodified diffusers loads it, and draws by DDIM what our own sampler draws."""

from __future__ import annotations

import pytest
import torch
import yaml
from diffusers import DDIMScheduler, StableDiffusionPipeline

from limner.diffusion.dynamics import DDIM
from limner.models.sd.adapter import SD
from limner.worlds.scenes.grammar import VOCABULARY
from limner.worlds.scenes.reward import BASE, BASE_SD
from walk import walk


@pytest.fixture(scope="module")
def plain() -> StableDiffusionPipeline:
    """As a user of diffusers loads it: no dtype is named."""
    return StableDiffusionPipeline.from_pretrained(BASE_SD)


def test_it_is_small_and_of_the_genuine_kind(plain: StableDiffusionPipeline) -> None:
    assert sum(f.stat().st_size for f in BASE_SD.rglob("*") if f.is_file()) <= 8 * 10**6
    assert plain.unet.num_parameters() <= 4_000_000 and plain.safety_checker is None
    assert isinstance(plain.scheduler, DDIMScheduler) and plain.scheduler.config.prediction_type == "epsilon"
    assert {p.dtype for part in (plain.unet, plain.vae, plain.text_encoder) for p in part.parameters()} == {
        torch.float32
    }
    assert all(len(plain.tokenizer(word)["input_ids"]) == 3 for word in VOCABULARY)


def test_it_saw_the_captions_that_the_flow_base_saw() -> None:
    mine, theirs = (yaml.safe_load((base / "config.yaml").read_text()) for base in (BASE_SD, BASE))
    for name in ("seed", "noisy_share", "early_noisy_share", "dropped_share", "num_pairs"):
        assert mine[name] == theirs[name], name
    assert mine["model"] == "sd" and (BASE_SD / "log.jsonl").stat().st_size > 0


def test_our_sampler_draws_the_pictures_of_the_plain_pipeline(plain: StableDiffusionPipeline) -> None:
    plain.set_progress_bar_config(disable=True)
    texts = ["two red stars", "a blue circle left of a green square"]
    noise = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    theirs = plain(texts, latents=noise, num_inference_steps=10, guidance_scale=1.0, output_type="pt").images
    ours = walk(SD.load(BASE_SD), DDIM(eta=0.0), 10, texts, noise)
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)
