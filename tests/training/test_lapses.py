"""The fit of lapses, against another search and votes of known slope and lapse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit

from limner.objectives.lapse import Lapse
from limner.training.certainty import SLOPES, TRUST, fit_lapse


def said(slope: float, lapse: float, pairs: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return leads and two votes on each pair."""
    rng = np.random.default_rng(seed)
    lead = rng.normal(0, 1.5, pairs)
    first = rng.binomial(2, lapse / 2 + (1 - lapse) * expit(slope * lead))
    return torch.from_numpy(lead), torch.from_numpy(np.stack([first, 2 - first], 1)).double()


def test_the_fit_is_the_likeliest_by_another_search() -> None:
    """A grid-free search without gradients, over the same votes and priors, written in probabilities."""
    lead, votes = said(2.0, 0.25, 400, seed=1)

    def misfit(at: np.ndarray) -> float:
        if not 0 <= at[1] < 1:
            return math.inf
        chance = at[1] / 2 + (1 - at[1]) * expit(np.exp(at[0]) * lead.numpy())
        fit = votes[:, 0].numpy() @ np.log(chance) + votes[:, 1].numpy() @ np.log(1 - chance)
        return float(at[0] ** 2 / (2 * SLOPES**2) - (TRUST - 1) * np.log(1 - at[1]) - fit)

    best = minimize(misfit, (0.5, 0.1), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9}).x
    found = fit_lapse(lead, votes)
    assert (math.log(found.slope), found.lapse) == pytest.approx(tuple(best), abs=2e-3)


def test_known_lapses_are_found_and_few_votes_change_little() -> None:
    """Over ten collections of 5,000 pairs the means are within three standard errors of the truth."""
    found = np.array([fit_lapse(*said(2.0, 0.2, 5000, seed)) for seed in range(10)])
    error = found.std(0, ddof=1) / math.sqrt(10)
    assert (np.abs(found.mean(0) - (2.0, 0.2)) < 3 * error + 0.005).all()
    few = fit_lapse(*said(1.0, 0.0, 4, seed=0))
    assert 0.6 < few.slope < 1.6 and few.lapse < 0.15
    assert fit_lapse(torch.zeros(3), torch.ones(3, 2)) == fit_lapse(torch.ones(3), torch.zeros(3, 2)) == Lapse()
