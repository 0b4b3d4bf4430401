"""The weights of a run: what is trained, and how the same model is seen as policy, reference and old policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from limner.core.errors import UserError
from limner.core.protocols import Adapter, Generator
from limner.engine.precision import Precision
from limner.engine.shards import cut_like

Name = Literal["policy", "reference", "old"]
G = TypeVar("G", bound=Generator)


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
    roles: dict[Name, Role]
    replay: Callable[[], AbstractContextManager[None]]

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return what is trained, under names that stay the same from run to run."""
        return dict(self.policy)

    def networks(self, name: Name, precision: Precision) -> dict[str, nn.Module]:
        """Return the networks as they run under the weights `name`, in the run's precision."""
        role = self.roles[name]
        return {key: _inside(role.context, precision, network) for key, network in role.networks.items()}

    def actor(self, model: G, name: Name, precision: Precision) -> G:
        """Return `model` over its networks as they are under the weights `name`, in the run's precision."""
        return model.with_networks(self.networks(name, precision))

    def release_reference(self) -> None:
        """Forget the reference, and so free its copy where it is one, if nothing will ask it again."""
        self.roles.pop("reference", None)

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
                    tensor.copy_(cut_like(state[part][name], tensor))


class Training(Protocol):
    """What of a model learns: settings that make its weights, and write them as its library loads them."""

    @property
    def whole(self) -> bool:
        """Whether networks are written whole, and no update of the base's."""
        ...

    def weights(self, model: Adapter, *, old: bool, seed: int, precision: Precision) -> Weights:
        """Return the weights to train, and the roles over them: `old` says whether there is an old policy."""
        ...

    def export(self, model: Adapter, folder: Path) -> None:
        """Write what `model` has learnt."""
        ...

    def described(self) -> str:
        """Return what a summary says of it."""
        ...


def _inside(context: AbstractContextManager[None], precision: Precision, network: nn.Module) -> nn.Module:
    """Return the network itself, with its parameters, blocks and hooks, but for the context of its forward pass."""

    def forward(*inputs: Any, **named: Any) -> Any:
        with context, precision.context(next(network.parameters()).device):
            return network.forward(*inputs, **named)

    inside = copy(network)
    inside.forward = forward
    return inside


def _check(part: str, mine: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    if mine.keys() != other.keys():
        odd = sorted(mine.keys() ^ other.keys())
        raise UserError(f"this checkpoint is of other weights: {len(odd)} of {part} do not match, first {odd[0]!r}")
    for name, tensor in mine.items():
        if tensor.shape != other[name].shape:
            shapes = f"{tuple(other[name].shape)}, here {tuple(tensor.shape)}"
            raise UserError(f"this checkpoint is of other weights: {part} {name!r} has shape {shapes}")
