"""What the small network of a learned reward finds of a word: maps of known places, read by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from limner.rewards.learned.small import Small


class Told(nn.Module):
    """Stands where the teller is, and keeps what it is told."""

    def forward(self, found: torch.Tensor) -> tuple[torch.Tensor, None]:
        self.found = found
        return torch.zeros(*found.shape[:2], 16), None


def found(places: list[tuple[int, int, float]]) -> torch.Tensor:
    """Return what is found of a word whose map is -20 but for the height of some places, on 8 x 8."""
    small = Small(["star"], nn.Identity(), 64, 16, 1)
    told = Told()
    small.teller = told  # type: ignore[assignment]
    seen = torch.zeros(1, 16, 8, 8)
    seen[:, 0] = -20.0
    for row, column, height in places:
        seen[:, 0, row, column] = height
    word = torch.zeros(1, 1, 17)
    word[..., 0], word[..., -1] = 4.0, 1.0  # 4 / sqrt(16) = 1, so that the map is channel 0
    small.judge(seen, word, 1)
    return told.found[0, 0, 16:]


def softplus(x: float) -> float:
    """Return log(1 + e^x) in the plain way."""
    return float(torch.tensor(x, dtype=torch.float64).exp().log1p())


def test_peaks_count_what_is_there_however_large_it_is() -> None:
    """A wide thing has mass at each of its places and one peak; three things have three."""
    wide = found([(1, 1, 3.0), (1, 2, 5.0), (2, 1, 2.0), (2, 2, 4.0)])
    three = found([(1, 1, 5.0), (1, 5, 5.0), (6, 3, 5.0)])
    assert wide[0] == pytest.approx(torch.tensor(sum(softplus(x) for x in (3, 5, 2, 4))).log1p().item(), rel=1e-5)
    assert wide[1] == pytest.approx(softplus(5), rel=1e-5)
    assert three[1] == pytest.approx(3 * softplus(5), rel=1e-5)
    assert wide[2] == three[2] == 5.0


def test_the_middle_is_the_centre_of_mass() -> None:
    """Two equal things at opposite corners have their middle between them; rows come first."""
    assert found([(0, 0, 5.0), (7, 7, 5.0)])[3:] == pytest.approx([0.0, 0.0], abs=1e-6)
    assert found([(7, 0, 5.0)])[3:].tolist() == pytest.approx([1.0, -1.0], abs=1e-6)
