"""The GAN that ships: plain diffusers loads it, and draws in one step what our own sampler draws."""

from __future__ import annotations

import torch
import yaml
from diffusers import StableDiffusion3Pipeline

from limner.core.types import Prompt
from limner.models.gan.adapter import GAN
from limner.registry.served import kind_of
from limner.worlds.scenes.reward import BASE_GAN

TEXTS = ["two red stars", "a blue circle left of a green square"]


def test_it_is_small_and_was_made_by_the_command_beside_it() -> None:
    assert sum(f.stat().st_size for f in BASE_GAN.rglob("*") if f.is_file()) <= 10 * 10**6
    config = yaml.safe_load((BASE_GAN / "config.yaml").read_text())
    assert config["model"] == "gan" and (BASE_GAN / "log.jsonl").stat().st_size > 0
    assert kind_of("scenes_gan") == "gan"


def test_plain_diffusers_draws_in_one_step_what_is_drawn_here() -> None:
    plain = StableDiffusion3Pipeline.from_pretrained(BASE_GAN, text_encoder_3=None, tokenizer_3=None)
    plain.set_progress_bar_config(disable=True)
    model = GAN.load(BASE_GAN)
    z = torch.randn(2, *model.noise().shape, generator=torch.Generator().manual_seed(0))
    theirs = plain(TEXTS, latents=z, output_type="pt", **model.settings.call({})).images
    with torch.no_grad():
        condition = model.encode([Prompt(text) for text in TEXTS])
        ours = model.decode(model.generate(z, condition, torch.arange(2))).pixels
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
