"""BRISQUE against a second derivation: scipy's convolution and root search, and the regression written out."""

from __future__ import annotations

import importlib.metadata
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.signal import convolve2d
from scipy.special import gamma

import tiny_vision
from limner.core.errors import UserError
from limner.core.media import Images
from limner.core.types import Prompt
from limner.rewards.brisque import features as module
from limner.rewards.brisque.features import features, grey
from limner.rewards.brisque.reward import Brisque, read_ranges, read_svm


def picture(size: tuple[int, int] = (40, 46)) -> np.ndarray:
    """Return something with edges, gradients and texture, in whole numbers."""
    y, x = np.meshgrid(*(np.arange(n) for n in size), indexing="ij")
    noise = np.random.default_rng(0).normal(0, 6, size)
    return (60 + 50 * np.sin(x / 5) * np.cos(y / 7) + 70 * (x > y) + noise).clip(0, 255).round()


def normalised(image: np.ndarray) -> np.ndarray:
    axis = np.arange(-3, 4)
    window = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * (7 / 6) ** 2))
    window /= window.sum()
    mean = convolve2d(image, window, "same")
    return (image - mean) / (np.sqrt(abs(convolve2d(image**2, window, "same") - mean**2)) + 1)


def ratio(a: float) -> float:
    return gamma(2 / a) ** 2 / gamma(1 / a) / gamma(3 / a)


def test_features_are_those_of_the_paper() -> None:
    image = picture()
    found = features(image)
    values = normalised(image)
    shape = brentq(lambda a: ratio(a) - np.mean(abs(values)) ** 2 / np.mean(values**2), 0.2, 10)
    assert found[:2] == pytest.approx([shape, np.mean(values**2)], abs=6e-4)
    down = values * np.vstack([values[-1:], values[:-1]])  # each with the value above it, the first with the last
    left, right = np.sqrt(np.mean(down[down < 0] ** 2)), np.sqrt(np.mean(down[down > 0] ** 2))
    skew = left / right
    r = np.mean(abs(down)) ** 2 / np.mean(down**2) * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shape = brentq(lambda a: ratio(a) - r, 0.2, 10)
    mean = (right - left) * gamma(2 / shape) / math.sqrt(gamma(1 / shape) * gamma(3 / shape))
    assert found[6:10] == pytest.approx([shape, mean, left**2, right**2], abs=6e-4)


def test_both_fits_find_the_shape_that_was_drawn() -> None:
    """A generalised Gaussian of shape a: x = +-(Gamma(1/a) variate)^(1/a)."""
    rng = np.random.default_rng(1)
    for a in (0.7, 2.0, 4.0):
        x = rng.gamma(1 / a, size=400_000) ** (1 / a) * rng.choice([-1, 1], 400_000)
        assert module._asymmetric(x)[0] == pytest.approx(a, rel=0.02)
    x = np.abs(rng.normal(size=400_000)) * np.where(rng.random(400_000) < 2 / 3, 2.0, -1.0)  # sides in ratio 2 : 1
    shape, mean, left, right = module._asymmetric(x)
    assert [shape, left, right] == pytest.approx([2, 1, 4], rel=0.02)
    assert mean == pytest.approx((2 - 1) * math.sqrt(2 / math.pi), rel=0.02)


@pytest.mark.parametrize("size", [(8, 6), (7, 9)])
def test_halving_is_a_cubic_with_mirrored_borders(size: tuple[int, int]) -> None:
    def cubic(x: float) -> float:
        x = abs(x)
        return 1.5 * x**3 - 2.5 * x**2 + 1 if x <= 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

    image = np.random.default_rng(2).random(size)
    mirrored = np.concatenate([image[::-1], image, image[::-1]])
    for i, row in enumerate(module._halved(image)):
        centre = 2 * i + 0.5
        expected = sum(cubic((k - size[0] - centre) / 2) / 2 * line for k, line in enumerate(mirrored))
        assert row == pytest.approx(expected, abs=1e-12)
    assert len(module._halved(image)) == math.ceil(size[0] / 2)


def test_grey_is_whole_numbers() -> None:
    assert grey(np.array([255.0, 100, 7])[:, None, None]).item() == round(0.2989 * 255 + 0.587 * 100 + 0.114 * 7)


def test_the_score_is_minus_the_regression(tmp_path: Path) -> None:
    model, ranges, table = tiny_vision.svm(tmp_path)
    image = picture()
    pixels = torch.from_numpy(np.stack([image] * 3))[None].float() / 255
    x = features(image)
    low, high = np.array([-1 - i / 40 for i in range(36)]), np.array([2 + i / 50 for i in range(36)])
    z = -1 + 2 * (x - low) / (high - low)
    expected = sum(w * math.exp(-0.05 * sum((a - b) ** 2 for a, b in zip(z, v, strict=True))) for w, *v in table) + 20.5
    black = torch.zeros_like(pixels)
    output = Brisque(model=model, ranges=ranges)(Images(torch.cat([pixels, black])), [Prompt("a")] * 2)
    assert output.score[0].item() == pytest.approx(-expected, rel=1e-5)
    assert output.valid.tolist() == [True, False] and output.score[1].isnan()


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    model, ranges, _ = tiny_vision.svm(tmp_path)
    other = tmp_path / "other"
    other.write_text(Path(model).read_text().replace("rbf", "linear"))
    with pytest.raises(UserError, match="other is no epsilon-SVR with an RBF kernel"):
        read_svm(other)
    with pytest.raises(UserError, match="model is no file of svm-scale for 36 features"):
        read_ranges(Path(model))
    with pytest.raises(UserError, match="cannot read .*nowhere"):
        Brisque(model=str(tmp_path / "nowhere"), ranges=ranges)(Images(torch.rand(1, 3, 16, 16)), [Prompt("a")])
    with pytest.raises(UserError, match="give both model"):
        Brisque(model=model)


def installed() -> bool:
    return any(package.name == "brisque" for package in importlib.metadata.distributions())


@pytest.mark.skipif(installed(), reason="the package brisque is installed")
def test_without_weights_it_says_where_to_get_them() -> None:
    with pytest.raises(UserError, match=r"install limner\[brisque\]"):
        Brisque()(Images(torch.rand(1, 3, 16, 16)), [Prompt("a")])


@pytest.mark.skipif(not installed(), reason="needs the package brisque, which holds the published weights")
def test_the_published_weights_rank_a_ladder() -> None:
    data = pytest.importorskip("skimage.data", reason="needs scikit-image's photograph")
    photograph = np.stack([data.camera()] * 3) / 255
    noise = np.random.default_rng(0).normal(size=photograph.shape)
    ladder = torch.from_numpy(np.stack([(photograph + s * noise).clip(0, 1) for s in (0, 0.02, 0.06, 0.16)]))
    scores = Brisque()(Images(ladder), [Prompt("a")] * 4).score
    assert scores[0].item() == pytest.approx(13.7084, abs=1e-3)  # as another port of the authors' release has it
    assert (scores.diff() < 0).all()
