import numpy as np
import pytest
import torch

from limner.core.media import Images
from limner.core.types import Prompt
from limner.rewards.colourfulness import HIGHEST, colourfulness

ONE = [Prompt("a")]


def test_it_is_the_published_formula() -> None:
    pixels = torch.rand(2, 3, 6, 7, generator=torch.Generator().manual_seed(0)).double()
    for picture, score in zip(pixels, colourfulness(Images(pixels), ONE * 2), strict=True):
        r, g, b = (channel.ravel() for channel in picture.numpy() * 255)
        rg, yb = r - g, 0.5 * (r + g) - b
        expected = np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean())
        assert score.item() == pytest.approx(expected, rel=1e-9)


def test_plain_pictures_by_hand() -> None:
    plain = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0.5], [1, 1, 0]])[:, :, None, None].expand(-1, -1, 4, 4)
    # red: rg = 255, yb = 127.5; yellow: rg = 0, yb = 255; no spread
    expected = [0.3 * np.hypot(255, 127.5), 0.0, 0.3 * 255]
    assert colourfulness(Images(plain), ONE * 3).tolist() == pytest.approx(expected, abs=1e-4)


def test_nothing_beats_the_highest() -> None:
    """Not even pictures that a search over half-and-half colours of the cube's corners finds."""
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    halves = [torch.stack([a, b]).T[:, None].repeat(1, 2, 2) for a in corners for b in corners]
    best = colourfulness(Images(torch.stack(halves)), ONE * len(halves)).max().item()
    assert 0.6 * HIGHEST < best <= HIGHEST


def test_grey_has_gradient_zero() -> None:
    pixels = torch.full((1, 3, 4, 4), 0.5, requires_grad=True)
    colourfulness(Images(pixels), ONE).sum().backward()
    assert pixels.grad is not None and not pixels.grad.any()
