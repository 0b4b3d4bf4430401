"""Samples held against others: by hand, and on o5, where a discriminator regularises, is gamed, and is cured."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from limner.bench.adversary import LATENT, adversary, gamed, trained
from limner.core.errors import UserError
from limner.judges import compose
from limner.objectives.two_sample import discrepancy, fit_ratio, log_density_ratio
from limner.rewards.algebra.compose import Composition
from limner.rewards.algebra.parse import parse
from limner.rewards.algebra.tree import leaf
from policies.test_one_step import BETA, objective, optimum

TEXT = "adversary(a, b, every=2, ridge=0.5)"
GROUP = torch.zeros(40, dtype=torch.long)
X, Y = torch.randn(2, 40, 2, generator=torch.Generator().manual_seed(0)).double()
Y = Y / 2 + 1


def columns(x: Tensor) -> dict[str, Tensor]:
    return {"a": x[:, 0], "b": x[:, 1]}


def test_it_learns_anew_as_often_as_it_says_and_remembers_the_base() -> None:
    reward, memory = Composition(parse(TEXT), {}), {}
    assert reward.total(columns(X), GROUP, 0, memory).total.abs().max() < 1e-12
    assert reward.total(columns(Y), GROUP, 1, memory).total.abs().max() < 1e-12  # still the first one
    found = reward.total(columns(Y), GROUP, 2, memory).total
    torch.testing.assert_close(found, log_density_ratio(Y, X, fit_ratio(X, Y, 0.5)))
    assert not reward.absolute and not reward.grouped


def test_an_invalid_sample_leaves_it_as_it_would_be_without() -> None:
    broken = Y.clone()
    broken[3, 1] = math.nan
    rest = torch.arange(40) != 3
    for text, expected in (
        (TEXT, log_density_ratio(Y[rest], X, fit_ratio(X, Y[rest], 0.5))),
        ("closeness(a, b)", -discrepancy(Y[rest], X)),
    ):  # noqa: E501
        reward, memory = Composition(parse(text), {}), {}
        reward.total(columns(X), GROUP, 0, memory)
        found = reward.total(columns(broken), GROUP, 2, memory)
        assert found.valid.tolist() == rest.tolist()
        torch.testing.assert_close(found.total[rest], expected)


def test_a_budget_of_drift_weighs_more_while_it_is_overdrawn() -> None:
    reward, memory = Composition(parse("constrained(a, closeness(a, b) >= -0.05, rate=2)"), {}), {}
    reward.total(columns(X), GROUP, 0, memory)
    reward.total(columns(Y), GROUP, 1, memory)
    drift = -discrepancy(Y, X)
    found = reward.total(columns(Y), GROUP, 2, memory).total
    multiplier = -2 * (float(drift.mean()) + 0.05)
    assert multiplier > 0.1
    torch.testing.assert_close(found, Y[:, 0] + multiplier * (drift + 0.05).clamp(max=0))


def test_a_folder_of_pictures_is_what_samples_are_held_against(tmp_path: Path) -> None:
    """Each at its own size, judged as samples are; text that names it reads back as itself."""
    generator, lines = np.random.default_rng(0), []
    for i in range(6):
        Image.fromarray(generator.integers(0, 256, (8 + i, 9, 3), np.uint8)).save(tmp_path / f"{i}.png")
        lines.append(f'{{"file_name": "{i}.png", "prompt": "noise"}}')
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    text = f"adversary(contrast, sharpness, data='{tmp_path}')"
    assert str(parse(text)) == text
    reward = compose(text)
    known = reward.references[str(tmp_path)]
    with Image.open(tmp_path / "5.png") as image:
        grey = torch.from_numpy(np.array(image)).double() / 255 @ torch.tensor([0.299, 0.587, 0.114]).double()
    assert known["contrast"].shape == (6,) and known["contrast"][5].item() == pytest.approx(
        grey.std(correction=0).item(), rel=0.02
    )
    assert reward.total(known, torch.zeros(6, dtype=torch.long), 0, {}).total.abs().max() < 1e-12
    broken = replace(reward, references={str(tmp_path): {name: column[:1] for name, column in known.items()}})
    with pytest.raises(UserError, match="1 pictures of .* could be judged; give 2 or more"):
        broken.total(known, torch.zeros(6, dtype=torch.long), 0, {})


def test_it_stands_where_a_divergence_did() -> None:
    """Beside o2 it reaches 95 % of what can be gained less the KL to the base, which no one computes."""
    best, weight = optimum("o5-latent"), BETA["o5-latent"]
    reached = trained(leaf("o2") + weight * adversary(), LATENT, 60)
    start = [torch.zeros(2).double(), torch.zeros(()).double()]
    worth, least, most = (float(objective("o5-latent", each)) for each in (reached, start, best))
    assert (worth - least) / (most - least) > 0.95


def test_a_frozen_discriminator_is_gamed_and_one_that_learns_along_is_not() -> None:
    """What the frozen one praises most is a point, which the data are not: the policy comes to draw nothing else."""
    found = gamed()
    assert found["learning along"] < 0.05 * found["at first"] and found["frozen"] > found["at first"]
