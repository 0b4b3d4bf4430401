"""Conjugate gradients against a direct solver."""

from __future__ import annotations

import torch

from limner.objectives.natural import conjugate_gradient


def test_it_solves_in_as_many_steps_as_there_are_unknowns():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(8, 8, generator=generator, dtype=torch.float64)
    matrix, target = root @ root.T + torch.eye(8), torch.randn(8, generator=generator, dtype=torch.float64)
    expected = torch.linalg.solve(matrix, target)
    torch.testing.assert_close(conjugate_gradient(matrix.matmul, target, 8, 0.0), expected)
    few = [(conjugate_gradient(matrix.matmul, target, k) - expected) for k in (1, 3, 6)]
    energy = [float(e @ matrix @ e) for e in few]
    assert energy[0] > energy[1] > energy[2]


def test_nothing_asked_for_is_nothing_done():
    asked = []
    zero = conjugate_gradient(lambda x: asked.append(x) or x, torch.zeros(3), 5)
    assert not zero.any() and not asked
