import numpy as np
import pytest
import torch
from scipy.ndimage import laplace

from limner.core.errors import UserError
from limner.core.media import Images
from limner.core.types import Prompt, RewardOutput
from limner.rewards.sharpness import sharpness

ONE = [Prompt("a")]


def judged(pixels: torch.Tensor) -> RewardOutput:
    output = sharpness(Images(pixels), ONE * len(pixels))
    assert isinstance(output, RewardOutput) and output.valid.all()
    return output


def test_it_is_the_variance_of_the_laplacian() -> None:
    pixels = torch.rand(2, 3, 9, 11, generator=torch.Generator().manual_seed(0)).double()
    output = judged(pixels)
    for picture, score, detail in zip(pixels, output.score, output.maps["detail"], strict=True):
        grey = 0.299 * picture[0] + 0.587 * picture[1] + 0.114 * picture[2]
        response = laplace(grey.numpy())[1:-1, 1:-1]
        assert score.item() == pytest.approx(response.var(), rel=1e-12)
        np.testing.assert_allclose(detail.numpy(), (response - response.mean()) ** 2, rtol=1e-9)


def test_the_range_is_reached_at_both_ends() -> None:
    rows, columns = torch.meshgrid(torch.arange(34), torch.arange(34), indexing="ij")
    board = ((rows + columns) % 2).float().expand(1, 3, -1, -1)
    assert judged(board).score.item() == pytest.approx(16, rel=1e-6)  # responses are +4 and -4
    assert judged(torch.full((1, 3, 5, 5), 0.3)).score.item() == pytest.approx(0, abs=1e-12)


def test_frames_are_averaged_and_too_small_ones_refused() -> None:
    class Clip:
        def frames(self) -> torch.Tensor:
            return pixels[None]

    pixels = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    output = sharpness(Clip(), ONE)
    assert isinstance(output, RewardOutput)
    torch.testing.assert_close(output.score, judged(pixels).score.mean(0, keepdim=True))
    with pytest.raises(UserError, match=r"at least 3 x 3 pixels, got \(2, 8\)"):
        sharpness(Images(torch.zeros(1, 3, 2, 8)), ONE)
