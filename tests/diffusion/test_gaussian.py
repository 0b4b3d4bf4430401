import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from limner.diffusion.gaussian import Gaussian

SHAPES = [(), (3,), (2, 3), (2, 3, 4), (2, 1, 3, 2), (2, 1, 3, 2, 2)]


def draw(*size, seed=0, dtype=torch.float64):
    return torch.randn(*size, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def torch_normal(gaussian):
    std = gaussian.std.reshape(-1, *(1,) * (gaussian.mean.ndim - 1)).expand_as(gaussian.mean)
    return Independent(Normal(gaussian.mean, std), gaussian.mean.ndim - 1)


def double(gaussian):
    return Gaussian(gaussian.mean.double(), gaussian.std.double())


@pytest.mark.parametrize("shape", SHAPES)
def test_log_prob_kl_and_ratio_agree_with_torch_distributions(shape):
    mean, other_mean, choice = draw(3, 4, *shape)
    new = Gaussian(mean, torch.tensor([0.1, 0.5, 1.0, 3.0], dtype=torch.float64))
    old = Gaussian(other_mean, torch.tensor([0.1, 0.6, 1.0, 2.0], dtype=torch.float64))
    torch.testing.assert_close(new.log_prob(choice), torch_normal(new).log_prob(choice))
    torch.testing.assert_close(new.kl(old), kl_divergence(torch_normal(new), torch_normal(old)))
    difference = torch_normal(new).log_prob(choice) - torch_normal(old).log_prob(choice)
    torch.testing.assert_close(new.log_ratio(old, choice), difference)


@pytest.mark.parametrize(("size", "std", "lost"), [(65_536, 0.006, 3e-3), (2**20, 0.32, 0.02)], ids=["image", "video"])
@pytest.mark.parametrize("widening", [1.0, 1.0003], ids=["equal std", "unequal std"])
def test_ratio_is_right_in_float32_where_the_difference_of_log_probs_is_not(size, std, lost, widening):
    """One step of SD3 (16 x 64 x 64, its last) and of a video model, its mean moved by a thousandth of the noise."""
    naive, ours = [], []
    for seed in range(4):
        old_mean, noise, moved = draw(3, 1, size, seed=seed, dtype=torch.float32)
        old = Gaussian(3 * old_mean, torch.tensor([std]))
        new = Gaussian(3 * old_mean + 1e-3 * std * (moved + noise), torch.tensor([std * widening]))
        choice = old.sample(noise)
        truth = torch_normal(double(new)).log_prob(choice.double()) - torch_normal(double(old)).log_prob(
            choice.double()
        )
        naive.append((new.log_prob(choice) - old.log_prob(choice) - truth).abs().item())
        ours.append(((new.log_ratio(old, choice) - truth) / truth).abs().item())
    assert max(naive) > lost
    assert max(ours) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_equal_gaussians_have_ratio_and_divergence_exactly_zero(dtype):
    mean, choice = draw(2, 5, 4, 8, 8, seed=4).to(dtype)
    std = torch.tensor([1e-3, 0.1, 0.3, 1.0, 7.0])
    new, old = Gaussian(mean, std), Gaussian(mean.clone(), std.clone())
    assert torch.equal(new.log_ratio(old, choice), torch.zeros(5, dtype=new.log_ratio(old, choice).dtype))
    assert torch.equal(new.kl(old), torch.zeros(5, dtype=new.kl(old).dtype))


def test_low_precision_is_widened_before_it_is_reduced():
    mean, choice = draw(2, 2, 64, 64, seed=5).bfloat16()
    gaussian = Gaussian(mean, torch.tensor([0.5, 1.0]))
    exact = Gaussian(mean.double(), gaussian.std.double()).log_prob(choice.double())
    assert gaussian.log_prob(choice).dtype == torch.float32
    torch.testing.assert_close(gaussian.log_prob(choice).double(), exact, rtol=1e-5, atol=0)
    old = Gaussian(draw(2, 64, 64, seed=6).bfloat16(), gaussian.std)
    ratio, exact = gaussian.log_ratio(old, choice), double(gaussian).log_ratio(double(old), choice.double())
    assert ratio.dtype == torch.float32
    torch.testing.assert_close(ratio.double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("shape", SHAPES[:4])
def test_gradients_of_densities_agree_with_finite_differences(shape):
    mean, old_mean, choice = draw(3, 2, *shape, seed=6)
    std, old_std = torch.tensor([[0.4, 1.3], [0.5, 1.2]], dtype=torch.float64)
    old = Gaussian(old_mean, old_std)
    mean.requires_grad_()
    std.requires_grad_()
    assert torch.autograd.gradcheck(lambda m, s: Gaussian(m, s).log_prob(choice), (mean, std))
    assert torch.autograd.gradcheck(lambda m, s: Gaussian(m, s).log_ratio(old, choice), (mean, std))
    assert torch.autograd.gradcheck(lambda m, s: Gaussian(m, s).kl(old), (mean, std))


def test_importance_weights_average_to_one_and_log_ratios_to_the_divergence():
    count = 200_000
    noise = draw(count, 2, seed=7)
    new = Gaussian(torch.tensor([0.2, -0.1], dtype=torch.float64).expand(count, 2), torch.full((count,), 0.9).double())
    old = Gaussian(torch.zeros(count, 2, dtype=torch.float64), torch.ones(count).double())
    assert new.log_ratio(old, old.sample(noise)).exp().mean().item() == pytest.approx(1, abs=5e-3)
    choice = new.sample(noise)
    log_ratio = new.log_ratio(old, choice)
    error = log_ratio.std().item() / math.sqrt(count)
    assert log_ratio.mean().item() == pytest.approx(new.kl(old)[0].item(), abs=4 * error)


def test_sample_is_mean_plus_scaled_noise():
    mean, noise = draw(2, 3, 2, 2, seed=8)
    sample = Gaussian(mean, torch.tensor([0.0, 1.0, 2.5], dtype=torch.float64)).sample(noise)
    assert torch.equal(sample[0], mean[0])
    torch.testing.assert_close(sample[1], mean[1] + noise[1])
    torch.testing.assert_close(sample[2], mean[2] + 2.5 * noise[2])


def test_an_empty_batch_has_empty_densities():
    mean = torch.zeros(0, 4, 2)
    empty = Gaussian(mean, torch.zeros(0))
    assert empty.log_prob(mean).shape == empty.log_ratio(empty, mean).shape == empty.kl(empty).shape == (0,)


def test_a_deterministic_decision_has_no_density():
    mean = torch.zeros(2, 3)
    ode, sde = Gaussian(mean, torch.tensor([0.5, 0.0])), Gaussian(mean, torch.ones(2))
    for call in (
        lambda: ode.log_prob(mean),
        lambda: ode.log_ratio(sde, mean),
        lambda: sde.log_ratio(ode, mean),
        lambda: ode.kl(sde),
        lambda: sde.kl(ode),
    ):
        with pytest.raises(ValueError, match="std 0 has no density"):
            call()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_normalised_ratio_is_std_times_ratio_plus_divergence(shape):
    """For equal std; and over the noise its mean is 0, whatever the means."""
    mean, other_mean, noise = draw(3, 4, *shape)
    std = torch.tensor([0.1, 0.5, 1.0, 3.0], dtype=torch.float64)
    new, old = Gaussian(mean, std), Gaussian(other_mean, std)
    choice = old.sample(noise)
    expected = std * (new.log_ratio(old, choice) + old.kl(new))
    torch.testing.assert_close(new.normalised_log_ratio(old, choice), expected)
    torch.testing.assert_close(new.normalised_log_ratio(old, old.sample(-noise)), -expected)
