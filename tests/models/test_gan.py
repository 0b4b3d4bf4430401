"""A GAN: both of its policies against densities in closed form, and a folder that diffusers draws from as here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from safetensors import safe_open

from limner.core.errors import UserError
from limner.core.media import Images
from limner.core.types import Prompt
from limner.engine.lora import lora
from limner.engine.precision import Precision
from limner.models.gan.adapter import GAN
from limner.models.gan.settings import GANSettings
from limner.models.sd3.adapter import SD3
from limner.policies.one_step import OneStepSampler
from limner.registry.served import kind_of
from toys import toy_rollout

PROMPTS = [Prompt("a red star"), Prompt("red"), Prompt("red star red star")]
LATENT = GANSettings("latent")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("gan")
    GAN.tiny(made)
    return made


def spread(model: GAN, seed: int) -> GAN:
    """Move all weights that learn."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for network in model.networks.values():
            for parameter in network.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) / 20)
    return model


def made(model: GAN, z: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.generate(z, model.encode(PROMPTS), index)


def normal(model: GAN, count: int) -> torch.Tensor:
    return torch.randn(count, *model.noise().shape, generator=torch.Generator().manual_seed(0))


def density(x: torch.Tensor, mean: torch.Tensor, std: float) -> float:
    """log N(x; mean, std^2 I), in float64."""
    away = (x.double() - mean.double()).square().sum().item()
    return -away / (2 * std**2) - x.numel() * (math.log(std) + math.log(2 * math.pi) / 2)


@pytest.mark.parametrize("chance", ["output", "latent", "noise"])
def test_scores_are_densities_in_closed_form(chance: Any) -> None:
    """Ratio and KL of one decision after the weights moved: Gaussians about G(z, c), and of z."""
    settings, tau = GANSettings(chance), 0.3
    model, base = GAN.tiny(settings=settings), GAN.tiny(settings=settings)
    sampler = OneStepSampler(chance, tau)
    policy, condition = sampler.policy(model), model.encode(PROMPTS)
    drawn = toy_rollout(policy, 3, 2, 0, condition=condition)
    pack = next(policy.pack(drawn, torch.arange(6), 100))
    spread(model, 1)
    with torch.no_grad():
        now, then = policy.distribution(pack, condition), sampler.policy(base).distribution(pack, condition)
        ratio, kl = now.log_ratio(pack.old, pack.choice), now.kl(then)
    assert ratio.abs().max() > 0.1
    for i in range(6):
        one, choice = pack.prompt_index[i : i + 1], pack.choice[i]
        with torch.no_grad():
            if chance == "output":
                new, old = (each.generate(pack.state.z[i : i + 1], condition, one)[0] for each in (model, base))
                stds = tau, tau
                expected_kl = (new - old).double().square().sum().item() / (2 * tau**2)
            elif chance == "noise":
                n, t = pack.state.z[i : i + 1], torch.ones(1)
                assert model.led is not None
                with torch.no_grad():
                    led, unled = (each.predict(n, t, condition, one) for each in (model.led, base.sd3))
                old = (math.sqrt(1 - tau**2) * n)[0]
                new, stds = old + (unled - led)[0], (tau, tau)
                expected_kl = (new - old).double().square().sum().item() / (2 * tau**2)
            else:
                start = model.start(condition, one)
                new, old, stds = start.mean[0], torch.zeros_like(choice), (start.std.item(), 1.0)
                variance = stds[0] ** 2
                squares = new.double().square().sum().item()
                expected_kl = (squares + choice.numel() * (variance - 1 - math.log(variance))) / 2
        expected = density(choice, new, stds[0]) - density(choice, old, stds[1])
        assert ratio[i].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)
        assert kl[i].item() == pytest.approx(expected_kl, rel=1e-3)


def test_z_is_standard_normal_until_something_has_learnt() -> None:
    model = GAN.tiny(settings=LATENT)
    with torch.no_grad():
        start = model.start(model.encode(PROMPTS), torch.arange(4))
    assert start.mean.shape == (4, *model.noise().shape)
    assert torch.equal(start.mean, torch.zeros_like(start.mean)) and torch.equal(start.std, torch.ones(4))


def test_where_z_is_drawn_is_said_by_quarters() -> None:
    """By hand: a number of each channel and quarter, linear in what is known of the caption, and one std."""
    start = spread(GAN.tiny(settings=LATENT), 2).beside.start
    pooled = torch.randn(2, start.config.text_width, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        mean, std = start(pooled)
    known = (pooled - pooled.mean(1, keepdim=True)) / (pooled.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    size = start.config.latent_size
    for text in range(2):
        for channel in range(start.config.latent_channels):
            for i in range(size):
                for j in range(size):
                    row = 4 * channel + 2 * (2 * i // size) + 2 * j // size
                    expected = start.mean.weight[row] @ known[text] + start.mean.bias[row]
                    assert mean[text, channel, i, j].item() == pytest.approx(expected.item(), abs=1e-5)
        told = start.log_std.weight[0] @ known[text] + start.log_std.bias[0]
        assert std[text].item() == pytest.approx(math.exp(told.item()), rel=1e-5)
    assert mean.std() > 0.05


def test_noise_that_is_led_nowhere_yet_is_standard_normal() -> None:
    """z = (1 - tau^2)^1/2 n + tau e, number by number, and plain samples are those of n itself, of the base."""
    model = GAN.tiny(settings=GANSettings("noise"))
    condition, sampler = model.encode(PROMPTS), OneStepSampler("noise", 0.6)
    drawn = toy_rollout(sampler.policy(model), 3, 400, 0, condition=condition)
    n, z = drawn.path.states.z[:, 0].double(), drawn.path.choices[:, 0].double()
    e = (z - 0.8 * n) / 0.6
    for each in (n, z, e):
        assert abs(each.mean().item()) < 0.01 and each.std().item() == pytest.approx(1, abs=0.01)
    assert abs((n * e).mean().item()) < 0.01
    plain = toy_rollout(sampler.plain().policy(model), 3, 2, 0, record=False, condition=condition).sample
    base = toy_rollout(OneStepSampler(noise=0.0).policy(GAN.tiny()), 3, 2, 0, record=False, condition=condition).sample
    torch.testing.assert_close(plain, base)
    with pytest.raises(UserError, match=r"sampler.noise 1 with chance noise is a share of z"):
        OneStepSampler("noise", 1.0)


def test_what_comes_out_depends_on_z_and_on_the_words_in_their_order(folder: Path) -> None:
    model = GAN.load(folder)
    assert kind_of(str(folder)) == "gan"
    z, same = normal(model, 2), torch.tensor([0, 0])
    ours = made(model, z, same)
    assert ours.shape == (2, *model.latent().shape) and not torch.equal(ours[0], ours[1])
    assert not torch.equal(ours, made(model, z, torch.tensor([1, 1])))
    words = [Prompt("red star"), Prompt("star red")]
    with torch.no_grad():
        a, b = model.generate(z[:1].expand(2, -1, -1, -1), model.encode(words), torch.arange(2))
    assert not torch.equal(a, b)
    assert model.decode(ours).pixels.shape == (2, 3, 32, 32)
    assert model.encode_media(Images(torch.rand(2, 3, 32, 32))).shape == ours.shape


def test_a_batch_draws_what_each_alone_draws(folder: Path) -> None:
    """Captions of three lengths."""
    model = GAN.load(folder)
    z, condition = normal(model, 3), model.encode(PROMPTS)
    with torch.no_grad():
        together = model.generate(z, condition, torch.arange(3))
        for i, prompt in enumerate(PROMPTS):
            alone = model.generate(z[i : i + 1], model.encode([prompt]), torch.tensor([0]))
            torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=0)


def test_plain_diffusers_draws_the_same_in_one_step(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The unmodified pipeline of the folder, by the scheduler that lies in it."""
    model = GAN.load(folder)
    plain = StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None)
    plain.set_progress_bar_config(disable=True)
    z, asked = normal(model, 3), dict(model.settings.call({}))
    assert asked == {"num_inference_steps": 1, "guidance_scale": 1.0, "max_sequence_length": 0}
    theirs = plain([prompt.text for prompt in PROMPTS], latents=z, output_type="pt", **asked).images
    ours = model.decode(made(model, z, torch.arange(3))).pixels
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert "not expected" not in capfd.readouterr().err


def test_a_folder_holds_no_pickle_and_gives_back_the_weights(folder: Path, tmp_path: Path) -> None:
    weights = [file for file in folder.rglob("*") if file.suffix not in (".json", ".txt") and file.is_file()]
    assert len(weights) == 6 and all(file.suffix == ".safetensors" for file in weights)
    for file in weights:
        with safe_open(file, "pt") as opened:
            assert [*opened.keys()]
    z, index = normal(GAN.load(folder), 3), torch.arange(3)
    torch.testing.assert_close(made(GAN.load(folder), z, index), made(GAN.tiny(), z, index))
    (folder / "start" / "diffusion_pytorch_model.safetensors").rename(tmp_path / "kept")
    with pytest.raises(UserError, match="has no weights"):
        GAN.load(folder)
    (tmp_path / "kept").rename(folder / "start" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(UserError, match="does not exist"):
        GAN.load(tmp_path / "absent")
    other = GAN.load(folder)
    with pytest.raises(UserError, match="discriminator has text_length 10, and texts have 74"):
        GAN.load(folder, GANSettings(max_sequence_length=64))
    other.beside.start.register_to_config(latent_size=5)
    with pytest.raises(UserError, match="start has latent_size 5, and the transformer's is 4"):
        GAN.wrap(other.sd3.pipeline, other.beside)
    with pytest.raises(UserError, match="is a ConditionalGAN, and the sd3 adapter serves"):
        SD3.load(folder)


@pytest.mark.parametrize("learns", ["output", "latent", "noise"])
def test_what_is_exported_draws_what_was_trained(tmp_path: Path, folder: Path, learns: Any) -> None:
    """By the lines of the card, in plain diffusers: whole, and as a LoRA that it, or peft, loads."""
    model = GAN.load(folder, GANSettings(learns))
    targets = ("mean", "log_std") if learns == "latent" else model.lora_targets
    weights = lora(model.networks, rank=2, alpha=6, targets=targets, seed=0, old=False, precision=Precision())
    for name, parameter in weights.parameters().items():
        parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))) / 4
    model.export_lora(tmp_path / "lora")
    model.export_full(tmp_path / "full")

    def drawn(each: GAN) -> torch.Tensor:
        """From the noise that torch has at a seed, as the lines take it."""
        torch.manual_seed(5)
        with torch.no_grad():
            words = each.encode(PROMPTS[:1])
            start = each.start(words, torch.tensor([0]))
            z = torch.normal(start.mean, start.std[:, None, None, None])
            z = z + each.lead(z, words, torch.tensor([0])) if each.learns == "noise" else z
            return each.decode(each.generate(z, words, torch.tensor([0]))).pixels[0]

    ours = drawn(model)
    assert (ours - drawn(GAN.load(folder))).abs().max() > 1e-2
    for place, whole in (("lora", False), ("full", True)):
        used: dict[str, Any] = {}
        lines = model.use(repr(str(folder)), repr(str(tmp_path / place)), whole, "a red star", model.settings.call({}))
        lines.insert({"output": -1, "latent": -4, "noise": -6}[learns], "import torch; torch.manual_seed(5)")
        exec("\n".join(lines), used)
        theirs = torch.from_numpy(np.array(used["image"])).movedim(-1, 0) / 255
        torch.testing.assert_close(theirs, ours, atol=0.6 / 255, rtol=0)


def test_a_chance_that_nothing_learns_is_refused() -> None:
    with pytest.raises(UserError, match=r"set sampler.chance to output, or, for a GAN, model.settings.learns to lat"):
        OneStepSampler("latent").policy(GAN.tiny())


def test_the_discriminator_reads_the_caption_and_sees_the_latents() -> None:
    """D(x, c) is how real x is and an inner product, and every number of x and every word tells."""
    model = GAN.tiny()
    x = torch.randn(2, *model.latent().shape, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    context, d = model.encode(PROMPTS)["context"][:2], model.beside.discriminator
    real, seen = d.see(x)
    read = d.read(context)
    torch.testing.assert_close(d(x, context), real + torch.einsum("ij,ij->i", seen, read))
    torch.testing.assert_close(read.norm(dim=1), torch.ones(2))
    assert not torch.equal(read[0], read[1])
    (gradient,) = torch.autograd.grad(d(x, context).sum(), x)
    assert (gradient != 0).all()
