"""Shapes are checked at every call under tests: what conftest.py has put above the functions of the pure rooms."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from limner.diffusion.timesteps import window
from limner.objectives.matching import velocity_mse
from shapes import checked

check = checked()


@check
def padded(x: Float[Tensor, "batch width"], steps: int) -> Bool[Tensor, "batch {steps}"]:
    return torch.zeros(len(x), int(steps > 0) + 1, dtype=torch.bool)


@check
def joined(x: Float[Tensor, " batch"], y: Float[Tensor, " batch"] | None, name: str) -> str:
    return name


@check
@dataclass(frozen=True)
class Held:
    x: Float[Tensor, " batch"]
    name: str


def test_the_rooms_are_checked() -> None:
    assert window(torch.tensor([1, 0]), 2, 3).tolist() == [[False, True, True], [True, True, False]]
    with pytest.raises(TypeError, match=r"window: start should be .*, got \(1, 2\)"):
        window(torch.zeros(1, 2, dtype=torch.long), 2, 3)
    with pytest.raises(TypeError, match="velocity_mse: "):
        velocity_mse(torch.zeros(2, 3), torch.zeros(3, 3))


def test_arrays_are_looked_at_and_nothing_else() -> None:
    """An axis has one size in a call, and any in the next; a size may be that of an argument."""
    assert joined(torch.zeros(2), torch.zeros(2), 3) == 3
    assert joined(torch.zeros(4), None, name="a") == "a"
    for x, y in ((torch.zeros(2), torch.zeros(3)), (torch.zeros(2, 2), None), (torch.zeros(2).long(), None)):
        with pytest.raises(TypeError, match="joined: "):
            joined(x, y, "a")
    assert padded(torch.zeros(3, 5), 2).shape == (3, 2)
    with pytest.raises(TypeError, match=r"padded: what it returns should be .*, got \(3, 2\)"):
        padded(torch.zeros(3, 5), steps=3)
    assert Held(torch.zeros(2), "a").name == "a"
    with pytest.raises(TypeError, match=r"x should be .*, got \(2, 2\)"):
        Held(torch.zeros(2, 2), "a")
