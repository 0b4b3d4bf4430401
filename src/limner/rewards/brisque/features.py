"""The 36 features of BRISQUE: how a picture's locally normalised grey values, and products of neighbours, spread.

Source: Mittal, Moorthy, Bovik, IEEE TIP 21 (2012) 4695, and the details of the authors' release: grey in whole numbers
of [0, 255], borders padded with zero, neighbours that wrap around, a cubic halving with antialiasing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d
from scipy.special import gammaln

Array = NDArray[np.float64]
SHAPES = np.arange(200, 10001) / 1000
"""The shapes a that a fit chooses from; a = 2 is a Gaussian."""
RATIO: Array = np.exp(2 * gammaln(2 / SHAPES) - gammaln(1 / SHAPES) - gammaln(3 / SHAPES))
"""(E|x|)^2 / E[x^2] of a generalised Gaussian of each shape."""
SHIFTS = (0, 1), (1, 0), (1, 1), (-1, 1)
"""Rows and columns by which the picture is rolled before it is multiplied with itself."""
WINDOW = np.exp(-(np.arange(-3, 4) ** 2) / (2 * (7 / 6) ** 2))
CUBIC = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
"""Keys' kernel (a = -1/2), stretched twofold, at distances of 3.5, 2.5, 1.5 and 0.5 pixels."""


def grey(frame: Array) -> Array:
    """Return the grey of R, G, B `[3, height, width]` in [0, 255], in whole numbers."""
    return np.round(np.tensordot((0.2989, 0.5870, 0.1140), frame, 1))


def features(picture: Array) -> Array:
    """Return the 36 features of grey values in [0, 255]: 18 at full size, 18 at half; NaN for a picture of one grey."""
    if np.ptp(picture) == 0:
        return np.full(36, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.concatenate([_statistics(picture), _statistics(_halved(_halved(picture).T).T)])


def _statistics(picture: Array) -> Array:
    """Return shape and variance of the normalised values (eq. 1 to 5), then of each product of neighbours (eq. 7).

    A product has four numbers (eq. 8 to 11): shape, mean, left and right variance.
    """
    mean, square = _local(picture), _local(picture**2)
    values = (picture - mean) / (np.sqrt(np.abs(square - mean**2)) + 1)
    variance = (values**2).mean()
    # The release compares E[x^2] / (E|x|)^2, the ratio's inverse; the nearest shape is not quite the same.
    found = [SHAPES[np.abs(variance / np.abs(values).mean() ** 2 - 1 / RATIO).argmin()], variance]
    for shift in SHIFTS:
        found += _asymmetric(values * np.roll(values, shift, (0, 1)))
    return np.array(found)


def _asymmetric(x: Array) -> list[float]:
    """Return shape a, mean (right - left) Gamma(2/a) / sqrt(Gamma(1/a) Gamma(3/a)), left and right variance."""
    left, right = (x[x < 0] ** 2).sum() / (x < 0).sum(), (x[x > 0] ** 2).sum() / (x > 0).sum()
    skew = np.sqrt(left / right)
    ratio = np.abs(x).mean() ** 2 / (x**2).mean() * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    nearest = ((RATIO - ratio) ** 2).argmin()
    return [SHAPES[nearest], (np.sqrt(right) - np.sqrt(left)) * np.sqrt(RATIO[nearest]), left, right]


def _local(picture: Array) -> Array:
    """Return the mean under a Gaussian window of 7 x 7 pixels."""
    window = WINDOW / WINDOW.sum()
    return np.asarray(correlate1d(correlate1d(picture, window, 0, mode="constant"), window, 1, mode="constant"))


def _halved(picture: Array) -> Array:
    """Return the picture at half its height, rounded up; the border is mirrored."""
    rows = (picture.shape[0] + 1) // 2
    padded = np.pad(picture, ((4, 4), (0, 0)), "symmetric")
    return np.asarray(sum(weight * padded[1 + k : 1 + k + 2 * rows : 2] for k, weight in enumerate(CUBIC)))
