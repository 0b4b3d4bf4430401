"""The scale and the error of a learned reward's worths: against known ones, and an optimum found by quadrature."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from limner.objectives.calibration import reliability_diagram
from limner.rewards.learned.network import Worth
from limner.training.certainty import LEAST, RIDGE, certainty, foretold, lapse
from limner.training.judgements import Judgements
from limner.training.reward_model import Worths


def votes_on(truth: torch.Tensor, pairs: torch.Tensor, text: torch.Tensor, seed: int, times: int = 1) -> Judgements:
    """Return so many votes a pair, by Bradley and Terry."""
    chance = torch.sigmoid(truth[pairs[:, 0]] - truth[pairs[:, 1]])
    first = torch.bernoulli(chance.expand(times, -1), generator=torch.Generator().manual_seed(seed)).sum(0)
    votes = torch.stack([first, torch.zeros(len(pairs)), times - first], 1)[:, None]
    texts = [str(i) for i in range(int(text.max()) + 1)]
    nothing = torch.zeros(0, dtype=torch.long)
    pictures = torch.zeros(len(truth), 3, 1, 1, dtype=torch.uint8)
    return Judgements(
        pictures, texts, texts, text, ["overall"], pairs, votes, [()] * len(pairs),
        torch.zeros(0, 2, dtype=torch.long), torch.zeros(0, 2, dtype=torch.bool), nothing, torch.zeros(0),
    )  # fmt: skip


def worths(mean: torch.Tensor, std: torch.Tensor) -> Worths:
    return Worths((), lambda _: Worth(mean[:, None], std[:, None]))


def simulated(
    prompts: int, each: int, scale: float, shared: float, own: float, seed: int, times: int = 1
) -> tuple[Worths, Judgements, torch.Tensor]:
    """Return worths whose members are unsure by `own`, all votes on pairs within prompts, and the true worths."""
    generator = torch.Generator().manual_seed(seed)
    mean, wrong = torch.randn(2, prompts * each, generator=generator, dtype=torch.float64)
    truth = scale * mean + math.hypot(shared, scale * own) * wrong
    within = torch.combinations(torch.arange(each))
    pairs = torch.cat([within + each * i for i in range(prompts)])
    said = votes_on(truth, pairs, torch.arange(prompts).repeat_interleave(each), seed, times)
    return worths(mean, torch.full_like(mean, own)), said, truth


def misfit_of(of: Worths, said: Judgements, nodes: int = 20) -> Callable[[Sequence[float]], float]:
    """Return minus the log-evidence of prompts with three pictures and pairs, at a scale and an error; with the ridge.

    A sum over a grid of two leads, d_1 = u_1 - u_0 and d_2 = u_2 - u_0, by Gauss and Hermite, in float64.
    """
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    grid = np.stack(np.meshgrid(points, points), -1).reshape(-1, 2)
    weight = np.outer(weights, weights).reshape(-1) / (2 * math.pi)
    root = np.linalg.cholesky(np.array([[2.0, 1.0], [1.0, 2.0]]))
    mean = of.to(0).mean[:, 0].numpy().reshape(-1, 3)
    own = float(of.to(0).std[0])
    first, second = (said.votes[:, 0, side].numpy().reshape(-1, 1, 3) for side in (0, 2))

    def misfit(at: Sequence[float]) -> float:
        scale, shared = at
        error = math.hypot(shared, scale * own) * grid @ root.T
        lead = scale * (mean[:, None, 1:] - mean[:, None, :1]) + error
        told = np.stack([-lead[..., 0], -lead[..., 1], lead[..., 0] - lead[..., 1]], -1)  # of 0 1, 0 2, 1 2
        fit = (first * log_expit(told) + second * log_expit(-told)).sum(-1)
        return float(RIDGE * scale**2 / 2 - np.log((np.exp(fit) * weight).sum(1)).sum())

    return misfit


def test_it_is_the_optimum_that_quadrature_finds() -> None:
    """To 1/50 nat, a fifth of a standard error; without the error the same votes are nats less likely."""
    of, said, _ = simulated(40, 3, scale=1.5, shared=0.8, own=0.2, seed=4, times=5)
    misfit = misfit_of(of, said)
    best = minimize(misfit, (1.5, 1.0), method="Nelder-Mead", options={"xatol": 1e-2, "fatol": 1e-4})
    assert misfit(certainty(of, said, 0)) < best.fun + 0.02
    assert min(misfit((scale, 0.0)) for scale in (0.8, 1.0, 1.2, 1.4, 1.6)) > best.fun + 1


def test_a_known_scale_and_a_known_error_are_found_within_their_standard_errors() -> None:
    """Six times of 40 prompts with 6 pictures: on average as near as the spread of the six allows."""
    found = np.array([certainty(*simulated(40, 6, 1.6, 1.0, 0.2, seed)[:2], 0) for seed in range(6)])
    standard_error = found.std(0, ddof=1) / math.sqrt(len(found))
    assert (standard_error < 0.12).all()
    assert (abs(found.mean(0) - [1.6, 1.0]) < 3 * standard_error).all(), found


def test_its_intervals_hold_the_truth_and_the_votes_own_scale_is_a_blurred_one() -> None:
    of, said, truth = simulated(70, 8, scale=1.6, shared=1.2, own=0.2, seed=3)
    scale, shared = certainty(of, said, 0)
    lead, variance = of.leads(said, 0)
    a, b = said.pairs.unbind(1)
    miss = (scale * lead - (truth[a] - truth[b])).abs()
    inside = miss <= 1.96 * (scale**2 * variance + 2 * shared**2).sqrt()
    assert 0.93 <= float(inside.double().mean()) <= 0.97
    # the likeliest scale of leads that are taken for sure, by Bradley and Terry
    x, y = lead.numpy(), said.votes[:, 0, 0].numpy()
    blurred = minimize(lambda s: -np.where(y > 0, log_expit(s * x), log_expit(-s * x)).sum(), 1.0).x[0]
    assert blurred < 0.8 * scale


def test_where_each_picture_stands_in_one_pair_nothing_can_be_known_of_the_error() -> None:
    """The scale is still the likeliest one: here of 600 sure leads, whose own fit is Bradley and Terry's."""
    mean = 2 * torch.randn(1200, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    said = votes_on(0.7 * mean, torch.arange(1200).reshape(600, 2), torch.arange(600).repeat_interleave(2), 1)
    scale, shared = certainty(worths(mean, torch.zeros(1200)), said, 0)
    x, y = (mean[::2] - mean[1::2]).numpy(), said.votes[:, 0, 0].numpy()
    expected = minimize(lambda s: -np.where(y > 0, log_expit(s * x), log_expit(-s * x)).sum(), 1.0).x[0]
    assert shared == 0 and scale == pytest.approx(expected, rel=0.01)
    assert abs(expected - 0.7) < 3 / math.sqrt((expit(x) * expit(-x) * x**2).sum())


def test_worths_that_say_nothing_or_the_opposite_are_worth_next_to_nothing() -> None:
    of, said, truth = simulated(30, 4, scale=1.0, shared=0.5, own=0.1, seed=2)
    scale, shared = certainty(worths(-truth, torch.zeros_like(truth)), said, 0)
    assert scale == LEAST and shared > 0.5
    assert certainty(worths(torch.ones_like(truth), torch.zeros_like(truth)), said, 0) == (1.0, 0.0)


def test_pictures_that_are_misread_are_lapses() -> None:
    """A sixth of the worths have nothing to do with the truth: what is stated of others' leads is then calibrated.

    Of leads that are stated within a tenth of a probability, as many come true, on votes that nothing was fitted to;
    without lapses they do not.
    """
    of, said, truth = simulated(400, 6, scale=2.0, shared=0.05, own=0.02, seed=3, times=2)
    generator = torch.Generator().manual_seed(9)
    misread = torch.rand(len(truth), generator=generator) < 1 / 6
    mean = torch.where(misread, torch.randn(len(truth), generator=generator, dtype=torch.float64), of.to(0).mean[:, 0])
    seen = worths(mean, torch.full_like(mean, 0.02))
    sure = certainty(seen, said, 0)
    more = lapse(seen, sure, said, 0)
    lead, chance = foretold(seen, sure, said, 0), torch.sigmoid(truth[said.pairs[:, 0]] - truth[said.pairs[:, 1]])
    plain, better = (reliability_diagram(torch.sigmoid(each), chance).error for each in (lead, more.log_odds(lead)))
    assert more.lapse > 0.1 and better < 0.02 < plain
