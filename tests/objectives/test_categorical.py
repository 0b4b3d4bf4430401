"""The categorical distribution against its definition, token by token in float64."""

from __future__ import annotations

import math

import pytest
import torch

from limner.objectives.categorical import Categorical

INF = math.inf
MINE, THEIRS = [0.5, -1.0, 2.0, -INF], [0.0, 1.0, -0.5, -INF]


def by_hand(logits: list[float]) -> list[float]:
    total = sum(math.exp(each) for each in logits)
    return [math.exp(each) / total for each in logits]


P, Q = by_hand(MINE), by_hand(THEIRS)
ONE, OTHER = (Categorical(torch.tensor([each], dtype=torch.float64)) for each in (MINE, THEIRS))


def test_values_by_hand() -> None:
    kl = sum(p * math.log(p / q) for p, q in zip(P[:3], Q[:3], strict=True))
    assert ONE.kl(OTHER).item() == pytest.approx(kl, rel=1e-12)
    assert ONE.entropy().item() == pytest.approx(-sum(p * math.log(p) for p in P[:3]), rel=1e-12)
    for k in range(3):
        choice, ratio = torch.tensor([k]), math.log(P[k] / Q[k])
        assert ONE.log_prob(choice).item() == pytest.approx(math.log(P[k]), rel=1e-12)
        assert ONE.log_ratio(OTHER, choice).item() == pytest.approx(ratio, rel=1e-12)
    assert ONE.kl(ONE).item() == 0 and ONE.log_ratio(ONE, torch.tensor([1])).item() == 0


def test_the_normalised_ratio_has_mean_zero_under_what_drew() -> None:
    found = [ONE.normalised_log_ratio(OTHER, torch.tensor([k])).item() for k in range(3)]
    assert sum(q * each for q, each in zip(Q[:3], found, strict=True)) == pytest.approx(0, abs=1e-12)


def test_gradients_pass_by_tokens_that_cannot_be_drawn() -> None:
    """No NaN from the -inf that both have, nor from that of a recorded one."""
    logits = torch.tensor([MINE], dtype=torch.float64, requires_grad=True)
    mine = Categorical(logits)
    for value in (mine.kl(OTHER), OTHER.kl(mine), mine.entropy(), mine.log_ratio(OTHER, torch.tensor([0]))):
        (gradient,) = torch.autograd.grad(value.sum(), logits, retain_graph=True)
        assert gradient.isfinite().all()
        step = torch.tensor([[1e-6, 0, 0, 0]], dtype=torch.float64)
        moved = [Categorical(logits.detach() + sign * step) for sign in (1, -1)]
        of = {0: lambda m: m.kl(OTHER), 1: lambda m: OTHER.kl(m), 2: Categorical.entropy}
        kind = [mine.kl(OTHER), OTHER.kl(mine), mine.entropy()]
        for i, each in enumerate(kind):
            if torch.equal(each, value):
                slope = (of[i](moved[0]) - of[i](moved[1])).item() / 2e-6
                assert gradient[0, 0].item() == pytest.approx(slope, rel=1e-6)


def test_tokens_are_drawn_by_their_probability() -> None:
    u = (torch.arange(100_000) + 0.5) / 100_000
    drawn = ONE.sample(u.double()[:, None].expand(-1, 1)[:, 0].clamp(max=1 - 1e-12)[:, None])[:, 0]
    shares = torch.bincount(drawn, minlength=4) / 100_000
    assert shares.tolist() == pytest.approx(P, abs=1e-5)


@pytest.mark.parametrize("u", [0.0, 1 - 2**-24])
def test_the_ends_draw_tokens_that_have_probability(u: float) -> None:
    logits = torch.tensor([[-INF, 0.3, 0.1, -INF]])
    assert Categorical(logits).sample(torch.tensor([u])).item() in (1, 2)
