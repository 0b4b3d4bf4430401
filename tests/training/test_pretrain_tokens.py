"""Pretraining of tokens: interrupted, and right in its pieces."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import yaml
from torch.nn import functional

from limner import bases
from limner.core.errors import UserError
from limner.core.types import Prompt
from limner.models.tokens.adapter import Tokens
from limner.models.tokens.build import tiny_parts
from limner.models.tokens.pretraining import TokensPretraining
from limner.registry.find import find
from limner.registry.names import BASES
from limner.training import pretrain_tokens as module
from limner.training.pretrain_tokens import clusters, restart

FEW = {
    "tokenizer_steps": 3,
    "tokenizer_batch": 2,
    "restoring_steps": 1,
    "num_pairs": 8,
    "steps": 3,
    "batch": 4,
    "num_codes": 16,
}


def run(folder: Path) -> None:
    bases.pretrain("scenes", folder, {"model": "tokens", **FEW, "optimizer": "muon", "checkpoint_seconds": 0.0})


def test_interrupted_it_goes_on_bit_by_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the tokenizer's third step, and in the decoder's second."""
    monkeypatch.setattr(module, "SAMPLED", 4)
    monkeypatch.setattr(module, "RESTART_EVERY", 1)
    run(tmp_path / "whole")
    update, seen = module.Fit.update, itertools.count()

    def failing(fit: module.Fit, loss: torch.Tensor) -> None:
        if next(seen) in (2, 6):
            raise KeyboardInterrupt
        update(fit, loss)

    with monkeypatch.context() as patch:
        patch.setattr(module.Fit, "update", failing)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                run(tmp_path / "parts")
    run(tmp_path / "parts")
    for file in ("tokenizer.pt", "restoration.pt", "codes.pt", "decoder.pt"):
        whole, parts = (torch.load(tmp_path / name / file, weights_only=True) for name in ("whole", "parts"))
        key = "codes" if file == "codes.pt" else "average"
        assert len(whole.get("optimizers", ())) == {"codes.pt": 0, "decoder.pt": 2}.get(file, 1)
        assert all(torch.equal(a, b) for a, b in zip(whole[key], parts[key], strict=True))
    base = tmp_path / "parts" / "pipeline"
    assert yaml.safe_load((base / "config.yaml").read_text())["steps"] == 3 and (base / "log.jsonl").exists()
    model = Tokens.load(base)
    assert (model.num_codes, model.latent().shape) == (16, (64,))
    assert model.decode(torch.zeros(1, 64, dtype=torch.long)).pixels.shape == (1, 3, 64, 64)
    with pytest.raises(UserError, match="begun with num_codes 16, not 32"):
        bases.pretrain("scenes", tmp_path / "parts", {"model": "tokens", **FEW, "optimizer": "muon", "num_codes": 32})


def test_the_loss_is_the_adapters_likelihood_of_a_picture_after_its_caption() -> None:
    """Captions of three lengths: what stands at their left or right must not matter."""
    parts = tiny_parts()
    model, texts = Tokens.wrap(parts), ["a red star", "", "red star star star"]
    codes = torch.randint(12, (3, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = TokensPretraining(parts).nats(texts, codes)
        logits = model.logits(codes, model.encode([Prompt(text) for text in texts]), torch.arange(3))
    each = functional.cross_entropy(logits.flatten(0, 1), codes.flatten(), reduction="none")
    torch.testing.assert_close(ours, each.view(3, 16).sum(1))


class Worded:
    """Parts whose nats of a picture are a number that the caption decides."""

    begun = None
    nats_of: ClassVar[dict[str, float]] = {"a b": 64.0, "b a": 65.0, "c": 128.0, "": 32.0}

    def __init__(self) -> None:
        self.decoder = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.ones_(self.decoder.weight)

    def nats(self, texts: list[str], codes: torch.Tensor) -> torch.Tensor:
        return torch.tensor([self.nats_of[text] for text in texts]) * self.decoder.weight[0, 0]

    def reordered(self, caption: str) -> list[str]:
        return ["b a"] if caption == "a b" else []


@pytest.mark.parametrize("contrast", [0.0, 0.3])
def test_captions_of_equal_words_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contrast: float
) -> None:
    """Of a caption with two orders, one without another, and an empty one: 16 codes each."""
    found: list[float] = []

    def once(network: object, loss: Any, *_: object) -> None:
        found.append(loss(["a b", "c", ""], torch.zeros(3, 16, dtype=torch.long), torch.Generator()).item())

    monkeypatch.setattr(module, "train_on_codes", once)
    parts: Any = Worded()
    module.train_decoder(parts, parts, module.TokenPretraining(contrast=contrast), tmp_path, print)
    assert found == [pytest.approx((64 + 128 + 32) / 3 / 16 + contrast * math.log(1 + math.exp(64 - 65)))]


def test_a_base_is_gone_on_with(tmp_path: Path) -> None:
    """Its tokenizer stays as it is, its decoder learns, and how both were made is kept."""
    few = {"model": "tokens", "start": "scenes_tokens", "num_pairs": 8, "steps": 2, "batch": 8, "contrast": 0.3}
    bases.pretrain("scenes", tmp_path, few)
    was, now = Tokens.load(find(BASES, "base", "scenes_tokens")).parts, Tokens.load(tmp_path / "pipeline").parts
    assert not (tmp_path / "tokenizer.pt").exists() and (tmp_path / "pipeline" / "begun" / "log.jsonl").exists()
    for mine, its in zip(was.vqvae.state_dict().values(), now.vqvae.state_dict().values(), strict=True):
        assert torch.equal(mine, its)
    moved = [
        (mine - its).abs().max().item()
        for mine, its in zip(was.decoder.parameters(), now.decoder.parameters(), strict=True)
    ]
    assert 0 < max(moved) < 0.01
    (tmp_path / "pipeline" / "log.jsonl").unlink()  # as in a folder of somebody's own
    bases.pretrain("scenes", tmp_path / "again", few | {"start": str(tmp_path / "pipeline"), "lr": 1e-9})
    again = Tokens.load(tmp_path / "again" / "pipeline").parts.decoder
    for mine, its in zip(now.decoder.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(mine, its, atol=1e-6, rtol=0)
    with pytest.raises(UserError, match="--num_codes 7: .* has 512 codes"):
        bases.pretrain("scenes", tmp_path / "other", few | {"num_codes": 7})
    with pytest.raises(UserError, match="--contrast: no captions of this world"):
        bases.pretrain("words", tmp_path / "words", few)


def test_clusters_are_found_and_unused_codes_begin_again() -> None:
    generator = torch.Generator().manual_seed(0)
    middles = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    points = middles.repeat_interleave(50, 0) + 0.1 * torch.randn(150, 2, generator=generator)
    found = clusters(points, 3)
    torch.testing.assert_close(found, points.view(3, 50, 2).mean(1))
    codebook = torch.cat([found[:2], torch.tensor([[99.0, 99.0]])])
    restart(codebook, points)
    assert torch.equal(codebook[:2], found[:2])
    assert (codebook[2] - points[100:]).abs().sum(1).min() == 0


def test_a_base_is_named_or_lies_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model where the command is given is not what nobody named."""
    Tokens.tiny(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert bases.base_at("scenes_tokens") == find(BASES, "base", "scenes_tokens")
    assert bases.base_at(str(tmp_path)) == tmp_path
    with pytest.raises(UserError, match="unknown base"):
        bases.base_at("nowhere")
