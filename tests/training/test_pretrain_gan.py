"""Pretraining of a GAN: interrupted, and right in its pieces."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
import yaml

from limner import bases
from limner.core.errors import UserError
from limner.models.gan.adapter import GAN
from limner.training import pretrain_gan as module

FEW = {"num_pairs": 12, "steps": 3, "batch": 4, "width": 16, "penalty_every": 2, "reading_steps": 1}


def run(folder: Path) -> None:
    bases.pretrain("scenes", folder, {"model": "gan", **FEW, "checkpoint_seconds": 0.0})


def test_interrupted_it_goes_on_bit_by_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped between the steps of discriminator and generator."""
    run(tmp_path / "whole")
    update, seen = module.Fit.update, itertools.count()

    def failing(fit: module.Fit, loss: torch.Tensor) -> None:
        if next(seen) == 4:  # after the two of the step of reading and decoding, and both of the next
            raise KeyboardInterrupt
        update(fit, loss)

    with monkeypatch.context() as patch:
        patch.setattr(module.Fit, "update", failing)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "parts")
    run(tmp_path / "parts")
    whole, parts = (torch.load(tmp_path / name / "gan.pt", weights_only=True) for name in ("whole", "parts"))
    for one, two in zip((whole, *whole["beside"]), (parts, *parts["beside"]), strict=True):
        assert one["step"] == two["step"] == 3
        assert all(torch.equal(a, b) for a, b in zip(one["average"], two["average"], strict=True))
    base = tmp_path / "parts" / "pipeline"
    assert yaml.safe_load((base / "config.yaml").read_text())["steps"] == 3 and (base / "log.jsonl").exists()
    model = GAN.load(base)
    assert model.latent().shape == (8, 8, 8) and model.noise().shape == (64,)
    assert model.decode(torch.zeros(1, 8, 8, 8)).pixels.shape == (1, 3, 64, 64)
    with pytest.raises(UserError, match="begun with width 16, not 32"):
        bases.pretrain("scenes", tmp_path / "parts", {"model": "gan", **FEW, "width": 32})


def test_the_generator_begins_as_a_decoder_whose_loss_is_that_of_a_conditional_autoencoder() -> None:
    """By hand, in float64: the error of what is decoded, and the divergence of Gaussians."""
    generator, x = torch.Generator().manual_seed(0), torch.tensor([[[[1.0, -2.0]]], [[[0.5, 3.0]]]]).double()
    told = torch.randn(2, 6, generator=generator).double()
    z = torch.randn(2, 3, generator=generator).double()

    class Fresh:
        encoder = staticmethod(lambda latents: told)
        generator = staticmethod(lambda z, shift: z[:, None, None, :2] + shift)

    class Data:
        condition = staticmethod(lambda caption: {"shift": caption[:, None, None, None].double()})

    caption = torch.tensor([0, 2])
    given = module.Given(x, caption, caption, z, torch.zeros(3, *x.shape))
    loss, health = module.imitated(Fresh(), given, Data(), module.Duel(imitation_std=0.7))
    error = divergence = 0.0
    for i in range(2):
        for k in range(3):
            mean, log_variance = float(told[i, k]), float(told[i, 3 + k])
            if k < 2:
                decoded = mean + float(z[i, k]) * math.e ** (log_variance / 2) + float(caption[i])
                error += (decoded - float(x[i, 0, 0, k])) ** 2 / 2
            divergence += (mean**2 + math.e**log_variance - 1 - log_variance) / 4
    assert health["decoding_error"] == pytest.approx(error / 2) and health["kl"] == pytest.approx(divergence)
    assert loss.item() == pytest.approx((error / (2 * 0.49) + divergence) / 2)


def test_what_is_mismatched_is_no_caption_of_its_picture() -> None:
    """By turns the altered caption and the next picture's; equal ones, by either, are told apart as such."""
    caption, altered = torch.tensor([0, 1, 2, 2, 3]), torch.tensor([9, 8, 2, 7, 6])
    given = module.Given(torch.zeros(5), caption, altered, torch.zeros(5), torch.zeros(3, 5))
    said, changed = caption[:, None].double(), altered[:, None].double()
    others, theirs = module.mismatch(said, changed, given)
    assert others[:, 0].tolist() == [9, 2, 2, 3, 6]
    assert theirs.tolist() == [True, True, False, True, True]
    again, none = module.mismatch(
        said, changed, module.Given(given.x, torch.zeros(5), torch.zeros(5), given.z, given.noise)
    )
    assert not none.any() and torch.equal(again, others)


def test_the_discriminator_is_told_of_mismatched_captions_as_of_samples() -> None:
    """By hand, of a discriminator that is linear: D(x, c) = x1 + x . e(c), whose contrast weighs nothing."""

    class D:
        log_scale = torch.tensor(0.0)
        see = staticmethod(lambda x: (x[:, 0], x))
        read = staticmethod(lambda words, mask: words)

    class Data:
        condition = staticmethod(lambda caption: {"words": words[caption], "mask": None})

    words = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [-1.0, 0.0]])
    x, made = torch.tensor([[0.5, -0.25], [0.1, 0.2]]), torch.tensor([[-0.5, 0.3], [0.0, -2.0]])
    given = module.Given(x, torch.tensor([0, 1]), torch.tensor([2, 3]), x, torch.zeros(3, 2, 2))
    config = module.Duel(contrast=0.0, gradient_penalty=0.0, mismatched=0.25)
    loss, _ = module.judged(D(), made, given, Data(), 1, config)
    d = lambda row, text: float(row[0] + row @ words[text])  # noqa: E731
    hinge = lambda scores: sum(max(0.0, 1 + s) for s in scores) / len(scores)  # noqa: E731
    real, false = hinge([-d(x[0], 0), -d(x[1], 1)]), hinge([d(made[0], 0), d(made[1], 1)])
    assert loss.item() == pytest.approx(real + 0.75 * false + 0.25 * hinge([d(x[0], 2), d(x[1], 0)]))
