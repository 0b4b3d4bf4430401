"""Oracles whose residual has moved at random, and the rewards of o1 and o2, in float64."""

from __future__ import annotations

from copy import deepcopy

import torch

from limner.diffusion.dynamics import EulerODE
from limner.objectives.tilt import Quadratic
from limner.policies.denoising import Sampler
from limner.worlds.oracle.model import Oracle
from limner.worlds.oracle.world import WORLDS

LINEAR, QUADRATIC = (Quadratic(*(part.double() for part in WORLDS[name].reward)) for name in ("o1", "o2"))


def policy(name="o1", dynamics=None, moved=0.1, steps=6):
    """An oracle in float64, its residual moved at random."""
    model = Oracle.load(name)
    residual = deepcopy(model.networks["residual"]).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in residual.parameters():
            parameter += moved * torch.randn(parameter.shape, generator=generator).double()
    return Sampler(dynamics or EulerODE(), steps).policy(model.with_networks({"residual": residual}))
