"""Pretraining: interrupted, shared between processes, and right in its pieces."""

from __future__ import annotations

import time
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
import yaml
from diffusers import AutoencoderKL, StableDiffusionPipeline, WanPipeline

from limner import bases
from limner.core.errors import UserError
from limner.core.types import Prompt
from limner.diffusion.dynamics import DDIM, EulerODE
from limner.models.sd.adapter import SD
from limner.models.sd.pretraining import SDPretraining
from limner.models.sd3.build import SD3Size
from limner.models.sd3.build import build as build_pipeline
from limner.models.sd3.pretraining import SD3Pretraining
from limner.models.wan import whole
from limner.models.wan.adapter import Wan
from limner.models.wan.build import WanSize
from limner.models.wan.build import build as build_clips
from limner.models.wan.pretraining import WanPretraining
from limner.models.wan.settings import WanSettings
from limner.policies.denoising import Sampler
from limner.training import pretrain as module
from limner.training.fit import require_same
from limner.training.pretrain import Pretraining, pretrain
from limner.worlds.motion.world import Motions
from limner.worlds.scenes.reward import Scenes
from walk import walk_frames

FEW = {
    "autoencoder_steps": 3,
    "autoencoder_batch": 4,
    "decoder_steps": 2,
    "num_pairs": 12,
    "steps": 4,
    "batch": 4,
    "early_steps": 2,
}


def small() -> SD3Size:
    return SD3Size(Scenes.vocabulary, layers=2, heads=1, autoencoder_channels=(8, 8, 8, 8))


def test_fresh_clips_are_told_apart_from_the_start() -> None:
    """By torch's own weights latents of two clips differ by a few hundredths of what the posterior's prior spans."""
    rng = np.random.default_rng(0)
    pixels = module.to_signed(torch.from_numpy(np.stack([Motions().pair(rng)[0] for _ in range(8)])))
    with torch.no_grad():
        plain = whole.encode(build_clips(WanSize(Motions.vocabulary)).vae, pixels).mean
        means = WanPretraining.build(Motions.vocabulary, 8, seed=0).encoded(pixels).mean
    differ = [(each - each.mean(0)).std((0, 2, 3, 4)) for each in (plain, means)]
    assert differ[0].max() < 0.1 and differ[1].min() > 0.15 and differ[1].max() < 2


def networks(folder: Path) -> list[torch.Tensor]:
    return torch.load(folder / "network.pt", weights_only=True)["average"]


def run(folder: Path) -> None:
    with torch.random.fork_rng():
        pretrain(SD3Pretraining(build_pipeline(small())), Scenes(), Pretraining(**FEW, checkpoint_seconds=0.0), folder)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that nobody writes to: what was pretrained without interruption."""
    folder = tmp_path_factory.mktemp("ended")
    run(folder)
    return folder


def test_a_decoder_that_goes_on_alone_leaves_latents_as_they_are(ended: Path) -> None:
    made = AutoencoderKL.from_pretrained(ended / "pipeline", subfolder="vae", torch_dtype=torch.float16)
    before = torch.load(ended / "autoencoder.pt", weights_only=True)["average"]
    same = {
        name: torch.equal(after, earlier.half())
        for (name, after), earlier in zip(made.named_parameters(), before, strict=True)
    }
    assert all(equal for name, equal in same.items() if name.startswith(("encoder.", "quant_conv.")))
    assert not all(equal for name, equal in same.items() if name.startswith("decoder."))


@pytest.mark.parametrize("stop", [1, 4, 7])
def test_interrupted_it_goes_on_bit_by_bit(
    ended: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """Stopped in the second step of the autoencoder, or of its decoder alone, or in the network's third."""
    update, seen = module.Fit.update, []

    def failing(fit: object, loss: torch.Tensor) -> None:
        if len(seen) == stop:
            raise KeyboardInterrupt
        seen.append(loss)
        update(fit, loss)

    monkeypatch.setattr(module.Fit, "update", failing)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts")
    monkeypatch.undo()
    run(tmp_path / "parts")
    pairs = zip(networks(ended), networks(tmp_path / "parts"), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    base = tmp_path / "parts" / "pipeline"
    assert yaml.safe_load((base / "config.yaml").read_text())["steps"] == 4 and (base / "log.jsonl").exists()


def test_two_processes_make_the_same_model(tmp_path: Path) -> None:
    for workers in (1, 2):
        bases.pretrain("scenes", tmp_path / str(workers), {**FEW, "lr": 1.5e-3, "warmup": 200, "workers": workers})
    one, two = networks(tmp_path / "1"), networks(tmp_path / "2")
    start = list(build_pipeline(SD3Size(Scenes.vocabulary)).transformer.parameters())
    assert max(float((a - b).abs().max()) for a, b in zip(one, start, strict=False)) > 1e-5
    # Adam's first steps have the size of the learning rate (7.5e-6 times the step) whatever the gradient's.
    assert max(float((a - b).abs().max()) for a, b in zip(one, two, strict=True)) < 4e-5


def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    """Killed, it cannot tell them; left alive, they would write the checkpoint of whoever goes on."""
    values = {**FEW, "autoencoder_steps": 10**6, "workers": 2}
    parent = get_context("spawn").Process(target=bases.pretrain, args=("scenes", tmp_path, values))
    parent.start()
    while not (tmp_path / "log.jsonl").exists():
        assert parent.is_alive()
        time.sleep(0.1)
    children = psutil.Process(parent.pid).children(recursive=True)
    parent.kill()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert len(children) >= 2 and not alive


def test_a_folder_begun_with_other_settings_is_refused(ended: Path) -> None:
    """Its data set and networks would be of two minds; how the work is shared may change."""
    before = (ended / "config.yaml").read_text()
    for values, text in (({"seed": 1}, "begun with seed 0, not 1"), ({"model": "sd"}, "begun with model sd3, not sd")):
        with pytest.raises(UserError, match=text):
            bases.pretrain("scenes", ended, {**FEW, **values})
    assert (ended / "config.yaml").read_text() == before
    require_same(ended, asdict(Pretraining(**FEW, workers=2, compile=True)), module.HOW)
    for values in ({"workers": 0}, {"warmup": 0}, {"latent_channels": 0}, {"workers": 3}):
        with pytest.raises(UserError, match="must"):
            Pretraining(**{**FEW, **values})


@pytest.mark.parametrize("kind", [SD3Pretraining, SDPretraining])
def test_latents_are_as_wide_as_asked(kind: type[SD3Pretraining | SDPretraining]) -> None:
    fresh = kind.build(Scenes.vocabulary, 5, 0)
    denoiser = fresh.pipeline.components[fresh.trained[0]]
    latents = fresh.pipeline.vae.encode(torch.zeros(1, 3, 64, 64)).latent_dist.mean
    assert latents.shape == (1, 5, 8, 8) and denoiser.config.in_channels == denoiser.config.out_channels == 5


class Telltale(Scenes):
    """A world whose captions say how noisy they are."""

    def pair(self, rng: np.random.Generator, *noisy_shares: float) -> tuple[np.ndarray, list[str]]:
        return super().pair(rng)[0], ["a red star" if share < 0.3 else "a blue square" for share in noisy_shares]


def test_cleaner_captions_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, seen = build_pipeline(small()), []
    encode = pipeline.encode_prompt

    def watched(texts: list[str], *args: object, **kwargs: object) -> object:
        seen.append({*texts} - {""})
        return encode(texts, *args, **kwargs)

    monkeypatch.setattr(pipeline, "encode_prompt", watched)
    pretrain(SD3Pretraining(pipeline), Telltale(), Pretraining(**FEW), tmp_path)
    assert seen == [{"a red star"}] * 2 + [{"a blue square"}] * 2


def test_the_noise_loss_is_that_of_the_v_prediction() -> None:
    """v = sqrt(abar) noise - sqrt(1 - abar) x0; an error in the noise of delta is one in v of delta / sqrt(abar)."""
    fresh = SDPretraining.build(Scenes.vocabulary, 8, 0)
    x0, noise = torch.randn(2, 6, 8, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = torch.tensor([0.0, 0.2, 0.4, 0.6, 0.8, 0.9999])
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    abar = (1 - betas).cumprod(0)[[0, 200, 400, 600, 800, 999]].view(-1, 1, 1, 1)
    seen = {}

    class Guess(torch.nn.Module):
        def forward(self, x: torch.Tensor, level: torch.Tensor, encoder_hidden_states: torch.Tensor) -> object:
            seen["x"], seen["level"] = x, level
            return SimpleNamespace(sample=0.9 * noise)

    loss = fresh.loss(Guess(), x0, ["a red star"] * 6, noise, t)
    x = abar.sqrt() * x0 + (1 - abar).sqrt() * noise
    assert seen["level"].tolist() == [0, 200, 400, 600, 800, 999]
    torch.testing.assert_close(seen["x"], x, rtol=1e-5, atol=1e-5)
    guessed_x0 = (x - (1 - abar).sqrt() * 0.9 * noise) / abar.sqrt()
    v = abar.sqrt() * noise - (1 - abar).sqrt() * x0
    guess = abar.sqrt() * 0.9 * noise - (1 - abar).sqrt() * guessed_x0
    torch.testing.assert_close(loss, (v - guess).square().mean(), rtol=1e-5, atol=0)


def test_a_unet_is_pretrained_and_plain_diffusers_draws_with_it(tmp_path: Path) -> None:
    bases.pretrain("scenes", tmp_path, {**FEW, "model": "sd"})
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "pipeline")
    pipeline.set_progress_bar_config(disable=True)
    settings = {"num_inference_steps": 3, "guidance_scale": 1.0, "output_type": "np"}
    picture = pipeline("a red star", generator=torch.Generator().manual_seed(0), **settings).images
    assert picture.shape == (1, 64, 64, 3) and pipeline.unet.num_parameters() < 3e6
    adapter, index = SD.load(tmp_path / "pipeline"), torch.zeros(1, dtype=torch.long)
    noise = torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    x, times, condition = noise, adapter.times(3), adapter.encode([Prompt("a red star")])
    policy = Sampler(DDIM(0.0), 3).policy(adapter)
    with torch.no_grad():
        for t, s in zip(times[:-1], times[1:], strict=True):
            x = policy.step(x, (t[None], s[None]), condition, index, torch.tensor([False]))[1].mean
        ours = adapter.decode(x).pixels.permute(0, 2, 3, 1)
    torch.testing.assert_close(torch.from_numpy(picture), ours, rtol=0, atol=2e-3)


def test_clips_are_pretrained_and_plain_diffusers_draws_with_them(tmp_path: Path) -> None:
    bases.pretrain("motion", tmp_path, FEW)
    pipeline = WanPipeline.from_pretrained(tmp_path / "pipeline")
    pipeline.set_progress_bar_config(disable=True)
    settings = WanSettings(resolution=32, num_frames=13, fps=8, max_sequence_length=12)
    adapter, texts = Wan.load(tmp_path / "pipeline", settings), ["a red star falls", "a blue circle bounces"]
    noise = torch.randn(2, *adapter.latent().shape, generator=torch.Generator().manual_seed(0))
    theirs = pipeline(
        texts, latents=noise, num_inference_steps=3, guidance_scale=1.0, output_type="pt", **settings.call({})
    ).frames
    tokens = noise[0, 0].numel() // 4
    assert theirs.shape == (2, 13, 3, 32, 32) and tokens <= 150
    torch.testing.assert_close(walk_frames(adapter, EulerODE(), 3, texts, noise), theirs, rtol=0, atol=1e-3)
    assert sum(file.stat().st_size for file in (tmp_path / "pipeline").rglob("*") if file.is_file()) <= 10 * 10**6
    latents = torch.load(tmp_path / "latents.pt", weights_only=True)["latents"]
    kept = pipeline.vae.config
    torch.testing.assert_close(torch.tensor(kept.latents_mean), latents.mean([0, 2, 3, 4]))
    torch.testing.assert_close(torch.tensor(kept.latents_std), latents.std([0, 2, 3, 4]))


@pytest.mark.parametrize(("world", "model"), [("motion", "sd3"), ("scenes", "wan")])
def test_clips_and_pictures_are_not_taken_for_each_other(world: str, model: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"--model {model}: pictures are drawn by sd3 and sd, clips by wan"):
        bases.pretrain(world, tmp_path / "new", {"model": model})
    assert not (tmp_path / "new").exists()
