"""Maps of where an advantage counts: principal components, the latent's grid, and what moves credit about."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from limner.objectives.focus import by_block, by_segment, on_latent, principal_map, redistributed, smoothed, to_mean_one


def features(batch: int = 2, frames: int = 1, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, frames, 5, 6, 7, generator=generator, dtype=torch.float64)


def test_a_map_is_what_numpy_makes_of_the_formula() -> None:
    """By numpy's SVD of each sample alone; a sign is the solver's, so each component is compared up to its mirror."""
    x = features(frames=2)
    found = principal_map(x, 1, "solver")
    for sample, mine in zip(x.numpy(), found.numpy(), strict=True):
        flat = sample.reshape(-1, 7) - sample.reshape(-1, 7).mean(0)
        along = flat @ np.linalg.svd(flat)[2][0]
        scaled = ((along - along.min()) / (along.max() - along.min())).reshape(mine.shape)
        assert min(abs(mine - scaled).max(), abs(mine - (1 - scaled)).max()) < 1e-9


def test_components_are_weighed_by_their_variance() -> None:
    x = features(1)
    one, three = principal_map(x, 1), principal_map(x, 3)
    flat = x.reshape(-1, 7) - x.reshape(-1, 7).mean(0)
    variance = torch.linalg.svdvals(flat) ** 2
    rest = (three - one * variance[0] / variance[:3].sum()) * variance[:3].sum()
    assert rest.min() > -1e-9 and rest.max() <= variance[1:3].sum() + 1e-9


def test_a_border_sign_points_at_what_is_not_the_edge() -> None:
    """One patch in the middle that differs: it has the map 1 and all others 0, whatever the solver's sign."""
    for sign in (1.0, -1.0):
        x = torch.zeros(1, 1, 5, 5, 4)
        x[0, 0, 2, 3] = sign * torch.tensor([1.0, -2.0, 0.5, 3.0])
        found = principal_map(x, 3, "border")
        assert found.argmax().item() == 13 and found.max() == 1 and found.sum().item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("sign", ["solver", "border"])
def test_equal_patches_have_no_place(sign: str) -> None:
    flat = torch.full((2, 1, 4, 4, 3), 0.3)
    flat[1, 0, 0, 0] = 1.0
    found = principal_map(flat, 3, sign)
    assert not found[0].any() and found[1].any()
    assert not to_mean_one(found)[0].any() and to_mean_one(found)[1].mean() == pytest.approx(1)


def test_a_blur_keeps_what_is_even_and_is_a_gaussian() -> None:
    even = torch.full((1, 2, 6, 6), 0.7)
    torch.testing.assert_close(smoothed(even, 1.0), even)
    point = torch.zeros(1, 1, 11, 11)
    point[0, 0, 5, 5] = 1
    found = smoothed(point, 1.0)[0, 0]
    assert (found[5, 6] / found[5, 5]).item() == pytest.approx(np.exp(-0.5), rel=1e-5)
    assert smoothed(point, 0.0) is point


@pytest.mark.parametrize(
    ("frames", "times", "blocks"),
    [(3, 3, [[0], [1], [2]]), (6, 3, [[0, 1], [2, 3], [4, 5]]), (5, 3, [[0], [1, 2], [3, 4]]), (4, 1, [[0, 1, 2, 3]])],
)
def test_frames_go_to_their_times(frames: int, times: int, blocks: list[list[int]]) -> None:
    values = torch.arange(float(frames))[None] ** 2
    assert by_block(values, times).tolist() == [[float(np.mean([i**2 for i in block])) for block in blocks]]


def test_what_has_no_place_on_a_latent_is_refused() -> None:
    for maps, shape in ((torch.ones(1, 2, 3, 3), (4, 8, 8)), (torch.ones(1, 1, 3, 3), (4,))):
        with pytest.raises(ValueError, match="has no place on latents"):
            on_latent(maps, shape)
    with pytest.raises(ValueError, match="6 frames are no whole blocks of 4"):
        on_latent(torch.ones(1, 6, 3, 3), (4, 4, 8, 8))
    assert on_latent(torch.ones(2, 1, 3, 3), (4, 8, 8)).shape == (2, 1, 8, 8)
    clip = on_latent(torch.arange(5.0)[None, :, None, None].expand(1, 5, 3, 3), (4, 3, 8, 6))
    assert clip.shape == (1, 1, 3, 8, 6) and clip[0, 0, :, 0, 0].tolist() == [0, 1.5, 3.5]


def test_redistributed_credit_is_the_zscore_of_each_place_less_its_mean() -> None:
    local = torch.tensor([[1.0, 5.0], [3.0, 5.0], [0.0, 0.0], [9.0, 9.0], [4.0, float("nan")]])
    group = torch.tensor([7, 7, 2, 2, 7])
    found = redistributed(local, group, torch.tensor([True, True, True, True, False]))
    std = (2 / 4) ** 0.5  # of -1, 0, 1, 0
    torch.testing.assert_close(found[0], torch.tensor([-0.5, 0.5]) / std)
    torch.testing.assert_close(found[1], torch.tensor([0.5, -0.5]) / std)
    assert not found[2:].any()  # all places as far from the others', or not judged
    torch.testing.assert_close(redistributed(local * 3 + 1e6, group, torch.tensor([True] * 4 + [False])), found)


def test_nine_frames_of_three_times_are_one_and_twice_four() -> None:
    """As Wan's autoencoder reads them; sixteen of four times would be five each after the first, and are not."""
    frames = torch.arange(9.0)[None]
    assert by_block(frames, 3).tolist() == [[0, 2.5, 6.5]]
    assert by_block(torch.arange(16.0)[None], 4).tolist() == [[1.5, 5.5, 9.5, 13.5]]


def test_a_frame_has_the_label_of_its_segment() -> None:
    """Seven frames in three equal parts: floor(3 i / 7) is 0 0 0 1 1 2 2; in parts of three the last has one frame."""
    labels = torch.tensor([5.0, 6.0, 7.0])
    assert by_segment(labels, 7, None).tolist() == [5, 5, 5, 6, 6, 7, 7]
    assert by_segment(labels, 7, 3).tolist() == [5, 5, 5, 6, 6, 6, 7]
    with pytest.raises(ValueError, match="3 segments of 2 frames are less than 7 frames"):
        by_segment(labels, 7, 2)
