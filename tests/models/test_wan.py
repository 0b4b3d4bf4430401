"""The Wan adapter against the unmodified diffusers pipeline, on miniatures of each kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from peft import LoraConfig
from torch import Tensor

from limner.core.errors import UserError
from limner.core.media import Videos
from limner.core.types import Prompt, Vocabulary
from limner.models.wan import whole
from limner.models.wan.adapter import Wan
from limner.models.wan.build import WanSize, build
from limner.models.wan.settings import WanSettings
from limner.training.pretrain import to_signed
from limner.worlds import motion

TEXTS = ["a red star", "a blue square falls"]
SETTINGS = WanSettings(resolution=32, width=48, num_frames=9, max_sequence_length=16)


def small_5b() -> WanPipeline:
    """Return the 5B of Wan 2.2 in miniature: the autoencoder of patches, and a time for each token."""
    pipeline = build(WanSize(Vocabulary(("red", "star")), layers=2, heads=2, encoder_channels=4, decoder_channels=4))
    pipeline.register_to_config(expand_timesteps=True)
    vae = pipeline.vae
    levels = {"dim_mult": [1, 2, 2], "temperal_downsample": [True, True]}
    scales = {"scale_factor_temporal": 4, "scale_factor_spatial": 8}
    latents = {"latents_mean": [0.3] * 8, "latents_std": [1.5] * 8}
    changed = type(vae).from_config(vae.config, is_residual=True, **levels, **scales, **latents)
    pipeline.register_modules(vae=changed)
    return pipeline


def two_experts() -> WanPipeline:
    """Return the 14B of Wan 2.2 in miniature: another network below half the noise."""
    pipeline = Wan.tiny().pipeline
    second = WanTransformer3DModel.from_config(pipeline.transformer.config)
    pipeline.register_modules(transformer_2=second)
    pipeline.register_to_config(boundary_ratio=0.5)
    return pipeline


KINDS = {"2.1": lambda: Wan.tiny().pipeline, "5B of 2.2": small_5b, "14B of 2.2": two_experts}


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wan")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        KINDS[request.param]().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    Wan.tiny(folder)
    return folder


def noise(adapter: Wan, count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, *adapter.latent().shape, generator=torch.Generator().manual_seed(seed))


def plain(folder: Path, scheduler: Any = None) -> WanPipeline:
    pipeline = WanPipeline.from_pretrained(folder)
    pipeline.scheduler = scheduler or pipeline.scheduler
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sampled(adapter: Wan, steps: int, guidance: float = 1.0) -> Tensor:
    """Return Euler's clips."""
    condition = adapter.encode([Prompt(text) for text in TEXTS])
    times, x = adapter.times(steps), noise(adapter, 2)
    with torch.no_grad():
        for t, s in zip(times[:-1], times[1:], strict=True):
            asked, without = (
                adapter.predict(x, t.expand(2), condition, index) for index in (torch.arange(2), torch.full((2,), 2))
            )
            x = x + (s - t) * (without + guidance * (asked - without))
        return adapter.decode(x).frames()


def drawn(pipeline: WanPipeline, adapter: Wan, steps: int, guidance: float = 1.0) -> Tensor:
    """Return what the unmodified pipeline draws from the same noise."""
    call = dict(adapter.settings.call({}))
    return pipeline(
        TEXTS,
        latents=noise(adapter, 2),
        num_inference_steps=steps,
        guidance_scale=guidance,
        output_type="pt",
        **call,
    ).frames


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_euler_steps_draw_the_clip_of_the_unmodified_pipeline(folder: Path, guidance: float) -> None:
    pipeline = plain(folder, FlowMatchEulerDiscreteScheduler(shift=3.0))
    adapter = Wan.load(pipeline, SETTINGS)
    expected = drawn(pipeline, adapter, 4, guidance)
    assert expected.shape == (2, 9, 3, 32, 48) and expected.std() > 0.01
    torch.testing.assert_close(sampled(adapter, 4, guidance), expected, atol=1e-4, rtol=0)


def test_they_do_on_the_grid_of_wans_own_solver(tiny: Path) -> None:
    """UniPC of order 1 without its corrector steps as Euler does, and asks the network at whole numbers."""
    adapter = Wan.load(tiny, SETTINGS)
    config = plain(tiny).scheduler.config
    euler = UniPCMultistepScheduler.from_config(config, solver_order=1, disable_corrector=list(range(9)))
    expected = drawn(plain(tiny, euler), adapter, 5)
    torch.testing.assert_close(sampled(adapter, 5), expected, atol=1e-4, rtol=0)
    euler.set_timesteps(5)
    assert torch.equal(adapter.times(5), euler.sigmas)
    assert torch.equal((adapter.times(5)[:-1] * 1000).floor().long(), euler.timesteps)
    linear = adapter.times(4, "linear")
    s = torch.tensor([1, 0.75, 0.5, 0.25, 0])
    torch.testing.assert_close(linear, 3 * s / (1 + 2 * s), atol=2e-6, rtol=0)


def test_encoding_undoes_decoding_as_far_as_the_autoencoder_does(folder: Path) -> None:
    """The statistics of the latents lie between the denoiser's scale and the autoencoder's."""
    adapter, pipeline = Wan.load(folder, SETTINGS), plain(folder)
    clips = torch.rand(2, 9, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    mean = torch.tensor(pipeline.vae.config.latents_mean).view(-1, 1, 1, 1)
    std = torch.tensor(pipeline.vae.config.latents_std).view(-1, 1, 1, 1)
    with torch.no_grad():
        expected = pipeline.vae.encode(2 * clips.transpose(1, 2) - 1).latent_dist.mean
        found = adapter.encode_media(Videos(clips, 16.0))
        shown = pipeline.vae.decode(expected).sample.transpose(1, 2) / 2 + 0.5
        torch.testing.assert_close(found * std + mean, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(adapter.decode(found).frames(), shown, atol=1e-4, rtol=0)
    assert adapter.decode(found).fps == 16.0 and found.shape[1:] == adapter.latent().shape
    with pytest.raises(UserError, match="a clip has 8 frames; give one more than a multiple of 4"):
        adapter.encode_media(Videos(clips[:, :8], 16.0))


@pytest.mark.parametrize("frames", [1, 5, 13])
def test_a_whole_clip_in_one_pass_is_what_diffusers_makes_frame_by_frame(folder: Path, frames: int) -> None:
    vae = WanPipeline.from_pretrained(folder).vae.double()  # the same sums in another order
    pixels = torch.rand(2, 3, frames, 32, 32, generator=torch.Generator().manual_seed(0)).double() * 2 - 1
    with torch.no_grad():
        posterior, expected = whole.encode(vae, pixels), vae.encode(pixels).latent_dist
        torch.testing.assert_close(posterior.parameters, expected.parameters, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            whole.decode(vae, expected.mean).clamp(-1, 1), vae.decode(expected.mean).sample, rtol=1e-4, atol=1e-5
        )


def test_a_whole_clip_is_not_clamped_so_that_values_outside_the_range_keep_their_gradients(folder: Path) -> None:
    vae = WanPipeline.from_pretrained(folder).vae
    pixels = torch.rand(2, 3, 13, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    far = (100 * vae.encode(pixels).latent_dist.mean.detach()).requires_grad_()
    clip = whole.decode(vae, far)
    clip[clip.abs() > 1].sum().backward()
    assert float(clip.detach().abs().max()) > 1 and far.grad is not None and bool((far.grad != 0).any())


def test_a_new_autoencoder_tells_clips_apart_in_spite_of_its_noise() -> None:
    """Else its decoder learns the mean clip and stays there."""
    vae = build(WanSize(Vocabulary(("red", "star")))).vae
    texts = ["a red star falls", "a blue circle bounces", "a green square stays still", "a red star moves up"]
    drawn = [motion.render(motion.parse(text), np.random.default_rng(i)).frames for i, text in enumerate(texts)]
    with torch.no_grad():
        posterior = whole.encode(vae, to_signed(torch.from_numpy(np.stack(drawn))))
    assert float(posterior.std.mean()) < float(posterior.mean.std(0).mean())


def test_one_frame_is_a_picture(tiny: Path) -> None:
    adapter = Wan.load(tiny, WanSettings(resolution=32, num_frames=1, max_sequence_length=16))
    assert sampled(adapter, 2).shape == (2, 1, 3, 32, 32)


def test_rows_are_the_pipelines_own_encoding(folder: Path) -> None:
    context = Wan.load(folder, SETTINGS).encode([Prompt(text) for text in TEXTS])["context"]
    pipeline = plain(folder)
    for row, text in zip(context, [*TEXTS, ""], strict=True):
        expected, _ = pipeline.encode_prompt(text, do_classifier_free_guidance=False, max_sequence_length=16)
        torch.testing.assert_close(row, expected[0], atol=1e-5, rtol=1e-5)
    assert Wan.load(folder, replace(SETTINGS, max_sequence_length=None)).encode([])["context"].shape[1] == 512


def test_a_lora_is_loaded_by_plain_diffusers(folder: Path, tmp_path: Path) -> None:
    adapter = Wan.load(folder, SETTINGS)
    generator = torch.Generator().manual_seed(0)
    for network in adapter.networks.values():
        network.add_adapter(LoraConfig(r=2, lora_alpha=6, target_modules=list(adapter.lora_targets)))
        with torch.no_grad():
            for name, weight in network.named_parameters():
                if "lora_" in name:
                    weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    adapter.export_lora(tmp_path / "lora")
    adapter.export_full(tmp_path / "full")
    condition, t = adapter.encode([Prompt(text) for text in TEXTS]), torch.tensor([0.3, 0.8])
    pipeline, whole = plain(folder), plain(folder)
    before = Wan.load(pipeline, SETTINGS).predict(noise(adapter, 2), t, condition, torch.arange(2))
    imports, lines = adapter.lora_use
    exec("\n".join([*imports, lines.format(place="place")]), {"pipe": pipeline, "place": str(tmp_path / "lora")})
    for name in adapter.networks:
        network = WanTransformer3DModel.from_pretrained(tmp_path / "full" / (name if name == "transformer_2" else ""))
        whole.register_modules(**{name: network})
    expected = adapter.predict(noise(adapter, 2), t, condition, torch.arange(2))
    assert ((expected - before).flatten(1).norm(dim=1) > 0.05 * before.flatten(1).norm(dim=1)).all()
    for each in (pipeline, whole):
        found = Wan.wrap(each, SETTINGS).predict(noise(adapter, 2), t, condition, torch.arange(2))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_the_default_targets_are_every_attention(tiny: Path) -> None:
    adapter = Wan.load(tiny)
    names = [name for name, _ in adapter.networks["transformer"].named_modules()]
    found = [name for name in names if name.endswith(adapter.lora_targets)]
    assert len(found) == 2 * 2 * 4 and all("attn" in name for name in found)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_frames": 8}, "model: num_frames is 8 frames; give one more than a multiple of 4"),
        ({"resolution": 40}, "model: resolution is 40 pixels; give a multiple of 16"),
        ({"resolution": 32, "width": 24}, "model: width is 24 pixels; give a multiple of 16"),
        ({"resolution": 32, "width": 1056}, "transformer has places for 64 patches of 1 x 2 x 2 latents along an axis"),
    ],
)
def test_sizes_that_cannot_be(tiny: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        Wan.load(tiny, WanSettings(**changes))
    assert said in str(caught.value)
    assert Wan.load(tiny).latent().shape == (16, 21, 60, 104)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p.register_to_config(boundary_ratio=0.9), "has no transformer_2 and boundary_ratio 0.9"),
        (lambda p: p.transformer.register_to_config(image_dim=8), "transformer has image_dim 8"),
        (lambda p: p.transformer.register_to_config(in_channels=36), "transformer has in_channels 36, and the vae has"),
        (lambda p: p.transformer.register_to_config(text_dim=8), "and the text encoder gives 16"),
        (lambda p: p.scheduler.register_to_config(use_flow_sigmas=False), "use_flow_sigmas False"),
        (lambda p: p.scheduler.register_to_config(prediction_type="epsilon"), "prediction_type epsilon"),
        (lambda p: p.vae.register_to_config(in_channels=12), "the colours of its patches are 3"),
    ],
)
def test_what_is_not_honoured_is_refused_by_name(change: Any, said: str) -> None:
    pipeline = Wan.tiny().pipeline
    change(pipeline)
    with pytest.raises(UserError) as caught:
        Wan.wrap(pipeline)
    assert said in str(caught.value) and "\n" not in str(caught.value)
