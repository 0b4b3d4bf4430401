"""Supervised training: what a step of each optimizer does, and that it goes on as if nothing had happened."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from limner.core.rng import Rng
from limner.core.team import Team
from limner.training.fit import Fit
from limner.training.pretrain import block_matrices

LR = 1e-2


def network() -> nn.ModuleDict:
    torch.manual_seed(0)
    blocks = nn.ModuleList([nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 6)) for _ in range(2)])
    return nn.ModuleDict({"first": nn.Linear(3, 6), "blocks": blocks, "last": nn.Linear(6, 2)})


def fitted(module: nn.ModuleDict) -> Fit:
    return Fit(module, LR, 0.0, steps=8, warmup=1, ema=0.9, team=Team(), matrices=block_matrices(module))


def loss(module: nn.ModuleDict, step: int) -> Tensor:
    x = torch.randn(16, 3, generator=Rng(("fit", step)).generator())
    h = module["first"](x)
    for block in module["blocks"]:
        h = h + block(h)
    return (module["last"](h) - x[:, :2]).square().mean()


def test_only_linear_layers_of_blocks_are_block_matrices() -> None:
    module = network()
    names = {id(p): name for name, p in module.named_parameters()}
    assert {names[id(p)] for p in block_matrices(module)} == {f"blocks.{i}.{j}.weight" for i in (0, 1) for j in (0, 2)}


def test_a_matrix_takes_an_orthogonal_step_as_long_as_adamws() -> None:
    """- lr * 0.2 sqrt(max(rows, columns)) U V^T of the gradient's singular vectors (arXiv:2502.16982, eq. 4).

    Muon reaches U V^T by five Newton-Schulz steps, which leave singular values between .7 and 1.2 of it.
    """
    module = network()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    fit = fitted(module)
    fit.update(loss(module, 0))
    for name, p in module.named_parameters():
        step, gradient = (p - before[name]).detach(), p.grad
        assert gradient is not None
        if name.startswith("blocks") and name.endswith("weight"):
            u, sizes, v = torch.linalg.svd(gradient, full_matrices=False)
            wanted = -LR * 0.2 * max(p.shape) ** 0.5 * (u @ v)
            # in the basis of the gradient's own singular vectors, of which the least may be lost in bfloat16
            found = torch.diagonal(u.T @ step @ v.T) / torch.diagonal(u.T @ wanted @ v.T)
            assert found[sizes > 0.05 * sizes[0]].sub(1).abs().max() < 0.35
        else:
            torch.testing.assert_close(step, -LR * gradient.sign(), rtol=1e-3, atol=1e-6)


def test_it_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole, halves = network(), network()
    for module, stops in ((whole, ()), (halves, (3,))):
        path = tmp_path / f"{len(stops)}.pt"
        for stop in (*stops, None):
            fit = fitted(module)
            for step in fit.steps(path, checkpoint_seconds=-1.0):
                if step == stop:
                    break
                fit.update(loss(module, step))
    for ours, theirs in zip(halves.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
