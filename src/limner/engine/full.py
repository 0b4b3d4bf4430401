"""Full fine-tuning: every weight is trained, and reference and old policy are copies of the networks."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from copy import deepcopy

from torch import nn

from limner.engine.weights import Name, Role, Weights


def full(networks: Mapping[str, nn.Module], *, reference: bool, old: bool) -> Weights:
    """Train all of `networks`, kept in float32; a reference and an old policy each cost a copy."""
    for network in networks.values():
        network.float().requires_grad_(True)
    roles: dict[Name, Role] = {"policy": Role(networks, nullcontext())}
    if reference:
        roles["reference"] = Role(_copy(networks), nullcontext())
    if old:
        roles["old"] = Role(_copy(networks), nullcontext())
    return Weights(
        policy=_parameters(networks),
        old=_parameters(roles["old"].networks) if old else {},
        roles=roles,
        replay=nullcontext,
    )


def _copy(networks: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    return {name: deepcopy(network).requires_grad_(False) for name, network in networks.items()}


def _parameters(networks: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    return {f"{name}.{key}": p for name, network in networks.items() for key, p in network.named_parameters()}
