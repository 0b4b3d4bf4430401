from __future__ import annotations

import math

import pytest
import torch

from limner.evaluate.diversity import diversity, diversity_per_prompt


def test_equal_pictures_have_none() -> None:
    picture = torch.rand(3, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert diversity(picture.expand(3, 4, 3, 64, 64)) == 0.0


def test_black_and_white_are_one_apart() -> None:
    images = torch.stack([torch.zeros(3, 32, 32), torch.ones(3, 32, 32)])[None]
    assert diversity(images) == pytest.approx(1.0)


def test_known_value_of_a_constructed_pair() -> None:
    """One of 64 cells turns from black to pure red: sqrt(1 / (64 * 3))."""
    images = torch.zeros(1, 2, 3, 64, 64)
    images[0, 1, 0, 8:16, 16:24] = 1
    assert diversity(images) == pytest.approx(math.sqrt(1 / 192))


def test_mean_over_pairs_then_prompts() -> None:
    grey = torch.tensor([[0.0, 0.3, 0.9], [0.5, 0.5, 0.5]])
    images = grey[:, :, None, None, None].expand(2, 3, 3, 16, 16)
    assert diversity_per_prompt(images).tolist() == pytest.approx([(0.3 + 0.9 + 0.6) / 3, 0.0])
    assert diversity(images) == pytest.approx(0.3)


def test_noise_counts_little_and_layout_much() -> None:
    generator = torch.Generator().manual_seed(1)
    noise = 0.1 * torch.randn(8, 4, 3, 64, 64, generator=generator)
    assert diversity(0.5 + noise) == pytest.approx(0.1 * 8 * math.sqrt(2) / 64, rel=0.02)
    moved = torch.ones(1, 2, 3, 64, 64)
    moved[0, 0, :, 8:24, 8:24] = 0
    moved[0, 1, :, 8:24, 40:56] = 0
    assert diversity(moved) > 10 * diversity(0.5 + noise)


def test_one_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="needs 2 or more"):
        diversity(torch.zeros(2, 1, 3, 8, 8))
