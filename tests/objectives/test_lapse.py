"""The log-odds of lapses, against the formula in probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit

from limner.objectives.lapse import Lapse


@pytest.mark.parametrize("lapse", [0.0, 1e-6, 0.3])
def test_the_log_odds_are_those_of_the_probability(lapse: float) -> None:
    lead = np.array([-30.0, -2.0, 0.0, 0.5, 6.0])
    chance = lapse / 2 + (1 - lapse) * expit(1.7 * lead)
    other = lapse / 2 + (1 - lapse) * expit(-1.7 * lead)
    found = Lapse(1.7, lapse).log_odds(torch.from_numpy(lead))
    assert found.numpy() == pytest.approx(np.log(chance) - np.log(other), abs=1e-12)
