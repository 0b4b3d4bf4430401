"""Pretraining of a masked base: interrupted, and right in its pieces."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
import yaml
from diffusers import AmusedPipeline

from limner import bases
from limner.core.errors import UserError
from limner.models.amused.adapter import Amused
from limner.models.amused.build import begin_alike, from_zero_to_one, tiny_pipeline
from limner.models.amused.pretraining import AmusedPretraining
from limner.models.tokens.build import tiny_parts
from limner.training.fit import Fit
from limner.training.pretrain_masked import hidden_places

FEW = {"num_pairs": 8, "steps": 3, "batch": 4, "width": 32}


def run(folder: Path) -> None:
    bases.pretrain("scenes", folder, {"model": "amused", **FEW, "checkpoint_seconds": 0.0})


def test_interrupted_it_goes_on_bit_by_bit_and_diffusers_loads_what_comes_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "whole")
    update, seen = Fit.update, itertools.count()

    def failing(fit: Fit, loss: torch.Tensor) -> None:
        if next(seen) == 2:
            raise KeyboardInterrupt
        update(fit, loss)

    with monkeypatch.context() as patch:
        patch.setattr(Fit, "update", failing)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "parts")
    run(tmp_path / "parts")
    whole, parts = (torch.load(tmp_path / name / "masked.pt", weights_only=True) for name in ("whole", "parts"))
    assert all(torch.equal(a, b) for a, b in zip(whole["average"], parts["average"], strict=True))
    base = tmp_path / "parts" / "pipeline"
    assert yaml.safe_load((base / "config.yaml").read_text())["steps"] == 3 and (base / "log.jsonl").exists()
    pipe = AmusedPipeline.from_pretrained(base)
    pipe.set_progress_bar_config(disable=True)
    assert pipe("two red stars", num_inference_steps=2).images[0].size == (64, 64)
    assert Amused.load(base).latent().shape == (64,)
    with pytest.raises(UserError, match="begun with width 32, not 64"):
        bases.pretrain("scenes", tmp_path / "parts", {"model": "amused", **FEW, "width": 64})


def test_the_loss_is_the_likelihood_of_what_is_hidden_given_what_is_seen() -> None:
    """Against the transformer of diffusers, called by itself; what is hidden does not leak into what it is given."""
    pipeline = tiny_pipeline()
    fresh = AmusedPretraining(Amused.wrap(pipeline), pipeline.vqvae)
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(12, (2, 16), generator=generator)
    hidden = torch.rand(2, 16, generator=generator) < 0.6
    condition = fresh.conditions(["a red star", "star"])
    with torch.no_grad():
        ours = fresh.loss(condition, torch.tensor([1, 2]), codes, hidden)
        logits = pipeline.transformer(
            torch.where(hidden, 15, codes).view(2, 4, 4),
            encoder_hidden_states=condition["states"][[1, 2]],
            pooled_text_emb=condition["pooled"][[1, 2]],
            micro_conds=torch.tensor([[8.0, 8.0, 0.0, 0.0, 6.0]]).expand(2, -1),
        )
        log_p = logits.log_softmax(1).flatten(2)
        expected = -torch.stack([log_p[i, codes[i, j], j] for i, j in hidden.nonzero().tolist()]).mean()
        torch.testing.assert_close(ours, expected)
        other = codes.where(~hidden, (codes + 1) % 12)
        same = fresh.model.fill(other.masked_fill(hidden, -1), condition, torch.tensor([1, 2]))
    torch.testing.assert_close(same, logits.flatten(2).transpose(1, 2))


def test_as_many_places_are_hidden_as_the_cosine_says_and_each_as_often() -> None:
    """In a batch of B the u are one from each B-th of (0, 1), so counts in order lie between those at its ends."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([hidden_places(50, 64, generator) for _ in range(200)])
    counts = drawn.sum(2)
    for i in range(50):
        most, least = (max(1, round(64 * math.cos(math.pi / 2 * (i + k) / 50))) for k in (0, 1))
        assert least <= counts[:, i].min() and counts[:, i].max() <= most
    mean = counts.float().mean() / 64
    assert abs(mean - 2 / math.pi) < 0.002  # the integral of cos(pi u / 2); at least one adds less than a thousandth
    often = drawn.float().mean((0, 1))
    assert (often - mean).abs().max() < 5 * math.sqrt(0.25 / 10_000)


def test_the_tokenizer_from_zero_to_one_shows_the_same_and_sees_the_same_inside() -> None:
    """With pixels p = (x + 1) / 2; at the border a convolution's zeros are another colour."""
    vqvae = tiny_parts().vqvae.eval()
    moved = from_zero_to_one(vqvae)
    generator = torch.Generator().manual_seed(0)
    x, codes = 2 * torch.rand(2, 3, 32, 32, generator=generator) - 1, torch.randint(12, (2, 16), generator=generator)
    with torch.no_grad():
        signed, ours = vqvae.encoder.conv_in(x), moved.encoder.conv_in((x + 1) / 2)
        torch.testing.assert_close(ours[:, :, 1:-1, 1:-1], signed[:, :, 1:-1, 1:-1], atol=1e-5, rtol=0)
        latents = vqvae.quantize.get_codebook_entry(codes.flatten(), (2, 4, 4, 4))
        theirs = vqvae.decode(latents, force_not_quantize=True).sample
        shown = moved.decode(codes, force_not_quantize=True, shape=(2, 4, 4, 4)).sample
    torch.testing.assert_close(shown, theirs / 2 + 0.5)
    assert theirs.std() > 1e-2 and not vqvae.config.lookup_from_codebook


def test_codes_that_lie_near_begin_as_near() -> None:
    """What is read and what logits are made of are linear in (v, |v|^2): a code in the middle of two lies so there."""
    transformer = tiny_pipeline().transformer
    codebook = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    codebook[2] = (codebook[0] + codebook[1]) / 2
    v = (codebook - codebook.mean(0)) / codebook.std(0)
    begin_alike(transformer, codebook)
    known = torch.cat([v, v.square().sum(1, keepdim=True), torch.ones(12, 1)], 1)
    for weight in (transformer.embed.embeddings.weight[:12], transformer.mlm_layer.conv2.weight[:, :, 0, 0]):
        found = torch.linalg.lstsq(known, weight.detach()).solution
        torch.testing.assert_close(known @ found, weight.detach(), atol=1e-4, rtol=0)
        assert weight.detach().std() > 0.05
