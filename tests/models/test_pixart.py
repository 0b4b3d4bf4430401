"""PixArt-Sigma and Hunyuan-DiT: folders as they are published, and what diffusers has not for them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from limner.core.edition import Edition
from limner.core.errors import UserError
from limner.diffusion.dynamics import DDIM
from limner.engine.precision import checkpoint_activations
from limner.models.fused import fuse
from limner.models.hunyuan_dit.build import tiny_pipeline as tiny_dit
from limner.models.hunyuan_dit.family import HUNYUAN_DIT
from limner.models.piped import Piped
from limner.models.pixart.build import tiny_pipeline
from limner.models.pixart.family import PIXART
from limner.policies.denoising import Sampler
from models.test_piped import chance, drawn
from piped_cases import TEXTS, Case, noise, prediction


def test_a_network_of_the_older_class_is_loaded(tmp_path: Path, no_network: None) -> None:
    """Published folders name the class that was for all transformers then, and fields that say nothing here."""
    saved = Piped.tiny(PIXART, tmp_path)
    index, config = tmp_path / "model_index.json", tmp_path / "transformer" / "config.json"
    index.write_text(index.read_text().replace("PixArtTransformer2DModel", "Transformer2DModel"))
    held = json.loads(config.read_text()) | {"_class_name": "Transformer2DModel", "only_cross_attention": False}
    config.write_text(json.dumps(held | {"num_vector_embeds": None, "double_self_attention": False}))
    loaded = PIXART.tiny_settings.load(tmp_path, torch.float32, torch.device("cpu"))
    torch.testing.assert_close(prediction(loaded), prediction(saved))
    hollow = PIXART.tiny_settings.load(Edition(str(tmp_path), hollow=True), torch.float32, torch.device("cpu"))
    hollow.networks["transformer"].load_state_dict(loaded.networks["transformer"].state_dict(), assign=True)
    torch.testing.assert_close(prediction(hollow), prediction(saved))


def test_a_network_that_is_told_sizes_is_refused() -> None:
    pipeline = tiny_pipeline()
    pipeline.transformer.use_additional_conditions = True
    with pytest.raises(UserError, match="is told sizes"):
        Piped.wrap(PIXART, pipeline, PIXART.tiny_settings)


@pytest.mark.parametrize("kind", ["PixArtSigmaPipeline", "HunyuanDiTPipeline"])
def test_loras_of_a_base_that_diffusers_does_not_read_are_refused(kind: str) -> None:
    model = Piped.tiny(PIXART if kind.startswith("PixArt") else HUNYUAN_DIT)
    with pytest.raises(UserError, match=f"model.loras: diffusers reads no LoRA for a {kind}; merge it"):
        fuse(model, ["some.safetensors"])


def test_a_network_without_checkpointing_is_refused_in_one_line() -> None:
    network = Piped.wrap(HUNYUAN_DIT, tiny_dit(), HUNYUAN_DIT.tiny_settings).networks
    with pytest.raises(UserError, match=r"network 'transformer' \(HunyuanDiT2DModel\) has no activation checkpointing"):
        checkpoint_activations(network)


def test_a_network_that_is_told_sizes_and_style_draws_what_its_pipeline_draws() -> None:
    """Hunyuan-DiT 1.1, of a picture that is no square."""
    case = Case(HUNYUAN_DIT, lambda: tiny_dit(told=True), dynamics=DDIM(1.0))
    model, plain = case.model(replace(HUNYUAN_DIT.tiny_settings, resolution=64, width=32)), case.plain()
    start, sampler = noise(model, 2), Sampler(DDIM(1.0), 4, guidance=2.5)
    call = model.settings.call(sampler.call())
    expected, _ = plain(
        prompt=list(TEXTS), latents=start, output_type="pt", return_dict=False, generator=chance(), **call
    )
    found = drawn(model, 2.5, start, case.dynamics)
    torch.testing.assert_close(found.reshape(expected.shape), expected, atol=1e-4, rtol=0)
