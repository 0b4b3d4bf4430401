"""The weights of a run: what is trained, and how the same model is seen as policy, reference and old policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from limner.core.errors import UserError
from limner.core.protocols import Adapter
from limner.core.types import Condition
from limner.core.wrapped import Wrapped
from limner.engine.precision import Precision

Name = Literal["policy", "reference", "old"]


@dataclass(frozen=True)
class Role:
    """How one actor runs: on these networks, inside this context (which can be entered any number of times)."""

    networks: Mapping[str, nn.Module]
    context: AbstractContextManager[None]


@dataclass(frozen=True)
class Weights:
    """Trained parameters, those of the old policy under the same names (empty: there is none), and the roles.

    Made by `limner.engine.lora.lora` or `limner.engine.full.full`; nothing else differs between the two. `replay`
    returns the context that repeats the role now running (see `checkpoint_activations`).
    """

    policy: Mapping[str, nn.Parameter]
    old: Mapping[str, nn.Parameter]
    roles: Mapping[Name, Role]
    replay: Callable[[], AbstractContextManager[None]]

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return what is trained, under names that stay the same from run to run."""
        return dict(self.policy)

    def actor(self, model: Adapter, name: Name, precision: Precision) -> Wrapped:
        """Return `model` as it is under the weights `name`, in the run's precision."""
        role = self.roles[name]
        under = model.with_networks(role.networks)

        def predict(x: Tensor, t: Tensor, condition: Condition, prompt_index: Tensor) -> Tensor:
            with role.context, precision.context(x.device):
                return under.predict(x, t, condition, prompt_index).float()

        return Wrapped(under, predict)

    def blend_old(self, decay: float) -> None:
        """Move the old policy, if there is one, towards the trained one: old <- decay old + (1 - decay) policy."""
        if not self.old:
            return
        with torch.no_grad():
            torch._foreach_lerp_(list(self.old.values()), list(self.policy.values()), 1 - decay)

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Return the tensors that training changes (not copied): those of the policy and of the old policy."""
        return {
            "policy": {name: parameter.detach() for name, parameter in self.policy.items()},
            "old": {name: parameter.detach() for name, parameter in self.old.items()},
        }

    def load_state(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Put back what `state` returned. Raises UserError if it came from another model, rank or set of layers."""
        mine = self.state()
        for part, tensors in mine.items():
            _check(part, tensors, state[part])
        with torch.no_grad():
            for part, tensors in mine.items():
                for name, tensor in tensors.items():
                    tensor.copy_(state[part][name])


def _check(part: str, mine: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    if mine.keys() != other.keys():
        odd = sorted(mine.keys() ^ other.keys())
        raise UserError(f"this checkpoint is of other weights: {len(odd)} of {part} do not match, first {odd[0]!r}")
    for name, tensor in mine.items():
        if tensor.shape != other[name].shape:
            shapes = f"{tuple(other[name].shape)}, here {tuple(tensor.shape)}"
            raise UserError(f"this checkpoint is of other weights: {part} {name!r} has shape {shapes}")
