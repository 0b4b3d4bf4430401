"""Pictures that count in a region alone: what lies outside changes neither a loss nor its gradient."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import logsigmoid

from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.algorithms.dpo import DPO
from limner.algorithms.dspo import DSPO
from limner.algorithms.kto import KTO
from limner.algorithms.mapo import MaPO
from limner.core.errors import UserError
from limner.core.protocols import Actors, Algorithm, Context
from limner.core.rng import Rng
from limner.core.types import Batch, LatentSpec, Renoised
from limner.diffusion.dynamics import EulerODE
from limner.learning.passes import optimizer_steps
from limner.learning.restoration import Noising
from limner.policies.denoising import Sampler
from limner.training.judged import region_of
from toys import Affine, ToyDenoiser, toy_rollout

SHAPE = (2, 3, 4)
"""Channels, rows and columns of a latent, of which the two columns on the right count."""
NOISING = Noising(num_times=2)
ALGORITHMS = (
    DPO(beta=3.0, noising=NOISING),
    DPO(beta=3.0, loss="ipo", noising=NOISING),
    KTO(beta=3.0, offset="none", noising=NOISING),
    KTO(beta=3.0, noising=NOISING),
    MaPO(beta=0.4, margin_scale=2.0, noising=NOISING),
    DSPO(beta=0.8, noising=NOISING),
    DiffusionNFT(decay="none", kl_weight=0.0, num_times=2),
    DiffusionNFT(decay="none", kl_weight=0.0, num_times=2, adaptive=False),
)
NAMES = [f"{type(each).__name__}-{i}" for i, each in enumerate(ALGORITHMS)]


class Case:
    """Two pairs, of words 1 and 2; the policy has moved from the reference, and sees each element alone."""

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm = algorithm
        self.now, self.before = (Affine(math.prod(SHAPE), seed).double() for seed in (0, 1))
        models = [ToyDenoiser(network, SHAPE) for network in (self.now, self.before)]
        policy, reference = (Sampler(EulerODE(), steps=3).policy(model) for model in models)
        self.actors = Actors(policy, reference, policy)
        self.rollout = toy_rollout(policy, prompts=2, group_size=2, record=False)

    def losses(self, masked: bool = True) -> Tensor:
        """Return the loss of each (pair or sample, time)."""
        region = torch.zeros(4, 1, *SHAPE[1:])
        region[..., 2:] = 2.0  # with mean 1
        batch = Batch(replace(self.rollout, region=region if masked else None), torch.tensor([1.0, -1.0, 1.0, -1.0]))
        (step,) = optimizer_steps(self.algorithm, self.actors, batch, Context(Rng("update"), 0, 100))
        (self.pack,) = step.packs()
        return step.loss_of(self.pack)[0]

    def gradient(self) -> Tensor:
        return torch.autograd.grad(self.losses().sum(), self.now.drift)[0].view(SHAPE)

    def parts(self, both: Renoised, network: Affine) -> tuple[Tensor, Tensor]:
        """Return what a network and a perfect one predict of the elements that count, [samples x times, 12]."""
        found, wanted = [], []
        for row, noise, t in zip(both.row, both.noise, both.t, strict=True):
            x0, word = self.rollout.sample[row].double(), torch.tensor([int(row) // 2 + 1])
            said = network(((1 - t) * x0 + t * noise)[None], t[None], word)[0]
            found.append(said[..., 2:].flatten())
            wanted.append((noise - x0)[..., 2:].flatten())
        return torch.stack(found), torch.stack(wanted)


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=NAMES)
def test_what_lies_outside_changes_neither_loss_nor_gradient(algorithm: Algorithm) -> None:
    case = Case(algorithm)
    loss, grad = case.losses().detach(), case.gradient()
    assert not grad[..., :2].any() and grad[..., 2:].all()
    case.rollout.sample[..., :2] += 5  # in place, in the better samples and the worse ones
    torch.testing.assert_close(case.losses().detach(), loss, atol=0, rtol=0)
    torch.testing.assert_close(case.gradient(), grad, atol=0, rtol=0)
    assert not torch.allclose(case.losses(masked=False).detach(), loss)


@pytest.mark.parametrize("algorithm", [ALGORITHMS[i] for i in (0, 1, 2, 4, 5)], ids=[NAMES[i] for i in (0, 1, 2, 4, 5)])
def test_the_loss_is_that_of_the_region_by_itself(algorithm: Algorithm) -> None:
    """By the papers' formulas, of errors that are means over the elements that count."""
    case = Case(algorithm)
    loss = case.losses().detach()
    both = case.pack if isinstance(case.pack, Renoised) else case.pack.both
    (new, target), (old, _) = case.parts(both, case.now), case.parts(both, case.before)
    error, change = ((new - target) ** 2).mean(1), ((new - target) ** 2 - (old - target) ** 2).mean(1)
    first, second = (x[: len(x) // 2] for x in (new, old))
    gap = change[: len(first)] - change[len(first) :]
    match algorithm:
        case DPO(loss="sigmoid"):
            expected = -logsigmoid(-3.0 * gap / 2)
        case DPO(loss="ipo"):
            expected = (gap + 1 / 6) ** 2
        case KTO():
            wanted = torch.tensor([1.0, -1.0])[both.row % 2]
            expected = 1 - torch.sigmoid(wanted * 3.0 * -change)
        case MaPO():
            phi = 0.5 * error / torch.expm1(0.5 * error)
            expected = error[: len(first)] - 0.4 * logsigmoid(2 * (phi[: len(first)] - phi[len(first) :]))
        case _:
            tilt = 0.8 * (1 - torch.sigmoid(-0.8 * gap / 2))[:, None]
            expected = ((first - target[: len(first)]) - tilt * (first - second)).square().mean(1)
    torch.testing.assert_close(loss, expected.detach(), atol=1e-12, rtol=0)


def test_a_region_is_a_masks_brightness_where_a_latent_has_its_elements(tmp_path: Path) -> None:
    """A mask of 8 x 8 over a latent of 4 x 4: means of squares of two pixels, over their own mean."""
    levels = np.zeros((8, 8), np.uint8)
    levels[:4, :4], levels[4, 4] = 255, 51
    Image.fromarray(levels).save(tmp_path / "mask.png")
    found = region_of(tmp_path / "mask.png", (8, 8), LatentSpec((3, 4, 4), torch.float32, torch.device("cpu")))
    bright = torch.zeros(4, 4)
    bright[:2, :2], bright[2, 2] = 1, 0.2 / 4
    torch.testing.assert_close(found, (bright / bright.mean())[None], atol=1e-6, rtol=0)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "dark.png")
    with pytest.raises(UserError, match="dark everywhere"):
        region_of(tmp_path / "dark.png", (8, 8), LatentSpec((3, 4, 4), torch.float32, torch.device("cpu")))
