import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from limner.objectives.divergence import k3, step_kl

SHAPES = [(), (3,), (2, 3), (2, 3, 4), (2, 1, 3, 2), (2, 1, 3, 2, 2)]


@pytest.mark.parametrize("shape", SHAPES)
def test_step_kl_is_the_divergence_of_two_gaussians(shape):
    mean, reference = torch.randn(2, 3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    std = torch.tensor([0.006, 0.3, 2.0], dtype=torch.float64)
    wide = std.reshape(3, *(1,) * len(shape)).expand_as(mean)
    ours, theirs = (Independent(Normal(m, wide), len(shape)) for m in (mean, reference))
    torch.testing.assert_close(step_kl(mean, reference, std), kl_divergence(ours, theirs))
    assert torch.autograd.gradcheck(lambda m: step_kl(m, reference, std), (mean.requires_grad_(),))


def test_k3_averages_to_the_exact_divergence_of_tokens():
    logits, reference_logits = torch.randn(2, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    log_p, log_q = logits.log_softmax(0), reference_logits.log_softmax(0)
    exact = (log_p.exp() * (log_p - log_q)).sum()
    torch.testing.assert_close((log_p.exp() * k3(log_q - log_p)).sum(), exact)
    assert (k3(log_q - log_p) >= 0).all()


def test_k3_keeps_its_digits_near_zero():
    small = torch.tensor([1e-3, -1e-3])
    assert k3(small).tolist() == pytest.approx([5.0017e-7, 4.9983e-7], rel=1e-3)
    assert k3(torch.zeros(1)).item() == 0
