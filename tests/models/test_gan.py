"""A GAN: both of its policies against densities in closed form, and a folder that gives back what was written."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from limner.core.errors import UserError
from limner.core.media import Images
from limner.core.types import Prompt
from limner.engine.lora import lora
from limner.engine.precision import Precision
from limner.models.gan.adapter import GAN
from limner.models.gan.settings import GANSettings
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
                parameter += torch.randn(parameter.shape, generator=generator) / 20
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


@pytest.mark.parametrize("chance", ["output", "latent"])
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
            else:
                start = model.start(condition, one)
                new, old, stds = start.mean[0], torch.zeros(len(choice)), (start.std.item(), 1.0)
                variance = stds[0] ** 2
                squares = new.double().square().sum().item()
                expected_kl = (squares + len(choice) * (variance - 1 - math.log(variance))) / 2
        expected = density(choice, new, stds[0]) - density(choice, old, stds[1])
        assert ratio[i].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)
        assert kl[i].item() == pytest.approx(expected_kl, rel=1e-3)


def test_z_is_standard_normal_until_something_has_learnt() -> None:
    model = GAN.tiny(settings=LATENT)
    with torch.no_grad():
        start = model.start(model.encode(PROMPTS), torch.arange(4))
    assert torch.equal(start.mean, torch.zeros_like(start.mean)) and torch.equal(start.std, torch.ones(4))


def test_what_comes_out_depends_on_z_and_on_the_words_in_their_order(folder: Path) -> None:
    model = GAN.load(folder)
    assert kind_of(str(folder)) == "gan"
    z, same = normal(model, 2), torch.tensor([0, 0])
    ours = made(model, z, same)
    assert ours.shape == (2, *model.latent().shape) and not torch.equal(ours[0], ours[1])
    assert not torch.equal(ours, made(model, z, torch.tensor([1, 1])))
    words = [Prompt("red star"), Prompt("star red")]
    with torch.no_grad():
        a, b = model.generate(z[:1].expand(2, -1), model.encode(words), torch.arange(2))
    assert not torch.equal(a, b)
    assert model.decode(ours).pixels.shape == (2, 3, 32, 32)
    assert model.encode_media(Images(torch.rand(2, 3, 32, 32))).shape == ours.shape


def test_a_batch_draws_what_each_alone_draws(folder: Path) -> None:
    """Captions of three lengths: what is padded must not matter."""
    model = GAN.load(folder)
    z, condition = normal(model, 3), model.encode(PROMPTS)
    with torch.no_grad():
        together = model.generate(z, condition, torch.arange(3))
        for i, prompt in enumerate(PROMPTS):
            alone = model.generate(z[i : i + 1], model.encode([prompt]), torch.tensor([0]))
            torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=0)
            words = {name: each.clone() for name, each in condition.items()}
            words["words"][~words["mask"]] = 7.0
            torch.testing.assert_close(model.generate(z, words, torch.arange(3)), together)


def test_a_folder_holds_no_pickle_and_gives_back_the_weights(folder: Path, tmp_path: Path) -> None:
    weights = [file for file in folder.rglob("*") if file.suffix not in (".json", ".txt") and file.is_file()]
    assert len(weights) == 5 and all(file.suffix == ".safetensors" for file in weights)
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
    with pytest.raises(UserError, match="start has noise 5, and the generator's is 64"):
        parts = GAN.load(folder).parts
        parts.start.register_to_config(noise=5)
        GAN.wrap(parts)


@pytest.mark.parametrize("learns", ["output", "latent"])
def test_what_is_exported_draws_what_was_trained(tmp_path: Path, folder: Path, learns: Any) -> None:
    """By the lines of the card, whole and as a LoRA that peft loads."""
    model = GAN.load(folder, GANSettings(learns))
    targets = model.lora_targets if learns == "output" else ("mean", "log_std")
    weights = lora(model.networks, rank=2, alpha=6, targets=targets, seed=0, old=False, precision=Precision())
    for name, parameter in weights.parameters().items():
        parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))) / 4
    model.export_lora(tmp_path / "lora")
    model.export_full(tmp_path / "full")

    def drawn(each: GAN) -> torch.Tensor:
        with torch.no_grad():
            words = each.encode(PROMPTS[:1])
            start = each.start(words, torch.tensor([0]))
            return each.decode(each.generate(start.mean + start.std * normal(each, 1), words, torch.tensor([0]))).pixels

    ours = drawn(model)
    assert (ours - drawn(GAN.load(folder))).abs().max() > 1e-2
    for place, whole in (("lora", False), ("full", True)):
        used: dict[str, Any] = {}
        exec("\n".join(model.use(repr(str(folder)), repr(str(tmp_path / place)), whole, "a red star", {})), used)
        torch.testing.assert_close(drawn(used["model"]), ours, atol=1e-5, rtol=0)
        assert np.array(used["image"]).shape == (32, 32, 3)


def test_a_chance_that_nothing_learns_is_refused() -> None:
    with pytest.raises(UserError, match=r"set sampler.chance to output, or, for a GAN, model.settings.learns to lat"):
        OneStepSampler("latent").policy(GAN.tiny())


def test_the_discriminator_reads_the_caption_and_sees_the_latents() -> None:
    """D(x, c) is how real x is and an inner product, and every number of x and every word tells."""
    model = GAN.tiny()
    x = torch.randn(2, *model.latent().shape, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    words, mask = (model.encode(PROMPTS)[name][:2] for name in ("words", "mask"))
    d = model.parts.discriminator
    real, seen = d.see(x)
    read = d.read(words, mask)
    torch.testing.assert_close(d(x, words, mask), real + torch.einsum("ij,ij->i", seen, read))
    torch.testing.assert_close(read.norm(dim=1), torch.ones(2))
    assert not torch.equal(read[0], read[1])
    (gradient,) = torch.autograd.grad(d(x, words, mask).sum(), x)
    assert (gradient != 0).all()
