"""The preparation in torch against PIL's, on which the networks were trained."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil

from limner.rewards.vision.preprocess import CLIP, IMAGENET, Preprocess, resampled


def picture(height: int, width: int, noise: float = 1.0) -> np.ndarray:
    """Return 8-bit noise on a gradient, the hardest thing to resample."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 1, width)[None, :, None] * np.ones((height, 1, 3))
    return ((1 - noise) * ramp + noise * rng.random((height, width, 3))).__mul__(255).round().astype(np.uint8)


def pixels(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).permute(2, 0, 1)[None] / 255


@pytest.mark.parametrize("shape", [(64, 64), (90, 61), (47, 120), (20, 28)])
def test_it_is_the_processor_of_transformers_but_for_rounding(shape: tuple[int, int]) -> None:
    array = picture(*shape)
    reference = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    expected = torch.as_tensor(np.array(reference(Image.fromarray(array))["pixel_values"]))
    error = (Preprocess(32)(pixels(array)) - expected).abs() * torch.tensor(CLIP[1])[:, None, None] * 255
    assert error.max() < 1.04 and error.mean() < 0.33  # of 255 grey levels


def test_a_larger_resize_keeps_the_middle() -> None:
    array = picture(40, 60)
    resized = Image.fromarray(array).resize((36, 24), Image.Resampling.BICUBIC)
    middle = pixels(np.array(resized))[..., 4:20, 10:26]
    mean, std = (torch.tensor(values)[:, None, None] for values in IMAGENET)
    found = Preprocess(16, IMAGENET, resize=24)(pixels(array)) * std + mean
    assert (found - middle).abs().max() * 255 < 1.04


def test_padding_fits_the_longer_edge_and_fills_with_black() -> None:
    """As HPSv2 does: 30 x 60 becomes 16 x 32, with 8 black rows on each side."""
    array = picture(30, 60)
    mean, std = (torch.tensor(values)[:, None, None] for values in CLIP)
    found = Preprocess(32, fit="pad")(pixels(array))
    black = (-mean / std).expand(3, 8, 32)
    torch.testing.assert_close(found[0, :, :8], black)
    torch.testing.assert_close(found[0, :, 24:], black)
    inside = pixels(np.array(Image.fromarray(array).resize((32, 16), Image.Resampling.BICUBIC)))
    assert ((found[:, :, 8:24] * std + mean) - inside).abs().max() * 255 < 1.04


def test_gradients_reach_the_pixels_and_overshoot_is_cut() -> None:
    edge = torch.zeros(1, 3, 8, 8)
    edge[..., 4:] = 1
    large = resampled(edge, 32, 32)
    assert large.min() == 0 and large.max() == 1
    source = torch.rand(1, 3, 20, 30, generator=torch.Generator().manual_seed(0)).requires_grad_()
    Preprocess(8)(source).square().sum().backward()
    assert source.grad is not None and (source.grad[..., 5:25] != 0).float().mean() > 0.9


@pytest.mark.parametrize("shape", [(1, 8000), (8000, 1)])
def test_a_strip_is_not_made_larger_than_what_is_seen_of_it(shape: tuple[int, int]) -> None:
    strip = torch.rand(1, 3, *shape, generator=torch.Generator().manual_seed(0))
    start = time.monotonic()
    middle = strip[
        :, :, slice(None) if shape[0] == 1 else slice(3992, 4008), slice(None) if shape[1] == 1 else slice(3992, 4008)
    ]
    torch.testing.assert_close(Preprocess(224)(strip), Preprocess(224)(middle))
    assert Preprocess(224, fit="pad")(strip).shape == (1, 3, 224, 224) and time.monotonic() - start < 2
