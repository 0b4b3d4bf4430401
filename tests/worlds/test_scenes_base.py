"""The base model that ships: unmodified diffusers loads it, and draws what our own code draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diffusers import StableDiffusion3Pipeline
from safetensors import safe_open

from limner.core.types import Images, Prompt
from limner.diffusion.dynamics import EulerODE
from limner.models.sd3 import SD3
from limner.policies.denoising import Denoising
from limner.worlds.scenes.grammar import VOCABULARY, sample_scene, to_prompt
from limner.worlds.scenes.render import render
from limner.worlds.scenes.reward import BASE, scenes


@pytest.fixture(scope="module")
def plain() -> StableDiffusion3Pipeline:
    """As a user of diffusers loads it: no dtype is named."""
    return StableDiffusion3Pipeline.from_pretrained(BASE, text_encoder_3=None, tokenizer_3=None)


def dtypes(file: Path) -> set[str]:
    with safe_open(file, framework="pt") as weights:
        return {weights.get_slice(key).get_dtype() for key in weights.keys()}  # noqa: SIM118


def test_it_is_small_and_stored_as_the_libraries_expect(plain: StableDiffusion3Pipeline) -> None:
    assert sum(f.stat().st_size for f in BASE.rglob("*") if f.is_file()) <= 10 * 10**6
    assert plain.transformer.num_parameters() <= 4_000_000
    assert (plain.transformer.config.sample_size // plain.transformer.config.patch_size) ** 2 == 16
    for part, kind in {"transformer": "F16", "vae": "F16", "text_encoder": "F32", "text_encoder_2": "F32"}.items():
        (file,) = (BASE / part).glob("*.safetensors")
        assert dtypes(file) == {kind}
    for part in (plain.transformer, plain.vae, plain.text_encoder, plain.text_encoder_2):
        assert {p.dtype for p in part.parameters()} == {torch.float32}


def test_its_tokenizer_knows_every_word(plain: StableDiffusion3Pipeline) -> None:
    tokenizer = plain.tokenizer
    assert 12 <= tokenizer.model_max_length <= 24 and tokenizer.eos_token_id != 2
    assert all(len(tokenizer(word)["input_ids"]) == 3 for word in VOCABULARY)


def test_its_imperfection_has_a_stated_cause() -> None:
    config = yaml.safe_load((BASE / "config.yaml").read_text())
    assert 0 < config["noisy_share"] < 1 and config["dropped_share"] == pytest.approx(0.1)
    assert (BASE / "log.jsonl").stat().st_size > 0


def test_our_sampler_draws_the_pictures_of_the_plain_pipeline(plain: StableDiffusion3Pipeline) -> None:
    plain.set_progress_bar_config(disable=True)
    texts = ["two red stars", "a blue circle left of a green square"]
    noise = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    theirs = plain(
        texts, latents=noise, num_inference_steps=20, guidance_scale=1.0, max_sequence_length=0, output_type="pt"
    ).images
    model = SD3.load(BASE, max_sequence_length=0)
    condition, times, index, x = model.encode([Prompt(t) for t in texts]), model.times(20), torch.arange(2), noise
    ode = EulerODE()
    policy = Denoising(model, ode, 20)
    with torch.no_grad():
        for t, s in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
            t_, s_ = torch.full((2,), t), torch.full((2,), s)
            x = ode.step(x, policy.estimate(x, t_, condition, index), t_, s_, model.schedule).mean
        ours = model.decode(x).pixels
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)


def test_the_checker_accepts_what_its_autoencoder_restores(plain: StableDiffusion3Pipeline) -> None:
    rng = np.random.default_rng(0)
    drawn = [sample_scene(rng) for _ in range(200)]
    pixels = torch.from_numpy(np.stack([render(scene, rng) for scene in drawn])).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        restored = plain.vae.decode(plain.vae.encode(pixels).latent_dist.mean).sample
    images = Images((restored / 2 + 0.5).clamp(0, 1)).rounded()
    assert scenes(images, [to_prompt(scene) for scene in drawn]).score.mean() >= 0.98
