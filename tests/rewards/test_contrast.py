import pytest
import torch

from limner.core.media import Images
from limner.core.types import Prompt
from limner.rewards.contrast import contrast

ONE = [Prompt("a")]


def test_it_is_the_standard_deviation_of_grey() -> None:
    pixels = torch.rand(2, 3, 6, 7, generator=torch.Generator().manual_seed(0)).double()
    grey = (pixels * torch.tensor([0.299, 0.587, 0.114]).double()[:, None, None]).sum(1)
    torch.testing.assert_close(
        contrast(Images(pixels), ONE * 2), grey.flatten(1).std(1, correction=0), rtol=1e-6, atol=0
    )


def test_half_black_half_white_is_the_most() -> None:
    pixels = torch.zeros(1, 3, 4, 4)
    pixels[..., :2] = 1
    assert contrast(Images(pixels), ONE).item() == pytest.approx(0.5)


def test_one_colour_scores_zero_with_gradient_zero() -> None:
    pixels = torch.full((1, 3, 4, 4), 0.5, requires_grad=True)
    score = contrast(Images(pixels), ONE)
    score.sum().backward()
    assert score.item() == 0 and pixels.grad is not None and not pixels.grad.any()
