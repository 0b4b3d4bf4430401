"""The perfect denoiser of each oracle world against the integral that it stands for, and its rewards."""

from __future__ import annotations

import pytest
import torch

from limner.core.errors import UserError
from limner.core.media import Images
from limner.core.types import Prompt
from limner.diffusion.prediction import to_estimate
from limner.worlds.oracle import reward
from limner.worlds.oracle.model import Oracle, Points
from limner.worlds.oracle.world import WORLDS


def oracle(name):
    return Oracle.load(name)


@pytest.mark.parametrize("name", ["o1", "o3", "o1-noise", "o3-noise"])
@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_it_predicts_the_mean_of_what_may_have_been(name, t):
    """E[x0 | x_t] by summing over x0 on a grid: prior times likelihood."""
    model = oracle(name)
    base, time = model.world.base, torch.full((5,), t).double()
    axis = torch.linspace(-6, 6, 601).double()
    x0 = torch.cartesian_prod(axis, axis)
    modes = [torch.distributions.Normal(mean.double(), base.std).log_prob(x0).sum(1) for mean in base.means]
    prior = torch.stack(modes, 1).add(base.weights.double().log()).logsumexp(1)
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(1)).double()
    alpha, sigma = model.schedule.alpha(time)[0], model.schedule.sigma(time)[0]
    likelihood = torch.distributions.Normal(alpha * x0[:, None], sigma).log_prob(x).sum(2)
    expected = torch.softmax(prior[:, None] + likelihood, 0).T @ x0
    model.networks["residual"].double()
    prediction = model.predict(x, time, None, torch.zeros(5, dtype=torch.long))
    estimate = to_estimate(model.prediction, prediction, x, time, model.schedule)
    torch.testing.assert_close(estimate.x0, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(alpha * estimate.x0 + sigma * estimate.noise, x)


def test_rewards_by_hand():
    points = Points(torch.tensor([[1.0, 2.0], [-1.5, 2.2], [0.1, -0.1]]))
    none = [Prompt("")] * 3
    torch.testing.assert_close(reward.o1(points, none), torch.tensor([2.0, -0.4, 0.05]))
    # a . x - (x' C x) / 2 with a = (1.2, -.5), C = [[1, .3], [.3, .5]]
    first = 1.2 - 1.0 - (1.0 + 2 * 0.3 * 2.0 + 0.5 * 4.0) / 2
    assert reward.o2(points, none)[0].item() == pytest.approx(first)
    assert reward.o3(points, none).tolist() == [0.5, 1.0, 1.0]
    with pytest.raises(UserError, match="judges points, not Images"):
        reward.o1(Images(torch.zeros(1, 3, 2, 2)), [Prompt("")])


def test_a_dot_where_the_point_is():
    frames = Points(torch.tensor([[4.0, 4.0], [-4.0, 0.0]])).frames()
    assert frames.shape == (2, 1, 3, 32, 32) and frames.min() >= 0 and frames.max() <= 1
    assert frames[0, 0, 0].argmin() == 31  # the right end of the first row
    assert frames[1, 0, 0].argmin() % 32 == 0 and frames[1, 0, 0].argmin() // 32 in (15, 16)


def test_an_unknown_oracle_is_named():
    with pytest.raises(UserError, match="'o4'.*no such oracle"):
        oracle("o4")
    assert set(WORLDS) == {"o1", "o2", "o3"}
