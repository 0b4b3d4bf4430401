"""What generator and discriminator play for, against sums by hand and derivatives in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from limner.objectives.adversarial import contrast, hinge, steepness


def test_hinge_by_hand() -> None:
    """Real ones above 1 and made ones below -1 cost nothing."""
    real, made = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.25, 1.0])
    assert hinge(real, made).item() == pytest.approx((0 + 0.5 + 2) / 3 + (0 + 1.25 + 2) / 3)
    unmatched = torch.tensor([-3.0, 0.5])
    told = hinge(real, made, unmatched, 0.25).item()
    assert told == pytest.approx((0 + 0.5 + 2) / 3 + 0.75 * (0 + 1.25 + 2) / 3 + 0.25 * (0 + 1.5) / 2)
    assert hinge(real, made, unmatched[:0], 0.25).item() == hinge(real, made).item()


def test_steepness_of_a_quadratic_and_its_own_gradient() -> None:
    """D(x) = a |x|^2 has |grad|^2 = 4 a^2 |x|^2, whose derivative in a is 8 a |x|^2."""
    x = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0)).double().requires_grad_(True)
    a = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    found = steepness(a * x.square().sum((1, 2)), x)
    squares = x.detach().square().sum((1, 2)).mean()
    torch.testing.assert_close(found, 4 * a**2 * squares)
    (gradient,) = torch.autograd.grad(found, a)
    torch.testing.assert_close(gradient, 8 * a.detach() * squares)


def test_contrast_by_hand() -> None:
    """Four pictures; the first two have one caption, and the third's caption could not be altered."""
    generator = torch.Generator().manual_seed(0)
    seen, read, altered = torch.randn(3, 4, 5, generator=generator).double()
    caption, changed = torch.tensor([7, 7, 3, 4]), torch.tensor([8, 9, 3, 7])
    scale, expected = 2.5, 0.0

    def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
        return scale * float(a @ b / a.norm() / b.norm())

    for i in range(4):
        others = [j for j in range(4) if j == i or caption[j] != caption[i]]
        own = cosine(seen[i], read[i])
        captions = [cosine(seen[i], read[j]) for j in others]
        captions += [cosine(seen[i], altered[i])] if changed[i] != caption[i] else []
        pictures = [cosine(seen[j], read[i]) for j in others]
        expected += sum(math.log(sum(map(math.exp, each))) - own for each in (captions, pictures)) / 8
    found = contrast(seen, read, altered, caption, changed, torch.tensor(scale).double())
    assert found.item() == pytest.approx(expected)
