"""Low-rank adapters: W x + (alpha / rank) B A x with B = 0 at first, so that training starts from the base exactly.

Source: LoRA, Hu et al., arXiv 2106.09685, section 4.1. Rank-stabilised, the scale is alpha / sqrt(rank) (Kalajdzievski,
arXiv 2312.03732); weight-decomposed, each row of the sum has a length of its own that is trained too (DoRA, Liu et al.,
arXiv 2402.09353), that of the base's row at first. The policy is the adapter "default", the old policy the adapter
"old", and the reference is the base with no adapter: one network in memory serves all three. Layers for which that is
cheaper run as one product, `engine.merged.MergedLinear`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import torch
from torch import nn

from limner.core.errors import UserError, nearest
from limner.core.rng import Rng
from limner.engine.precision import Precision
from limner.engine.weights import Name, Role, Weights

ADAPTERS: Mapping[Name, str] = {"policy": "default", "old": "old"}


def lora(
    networks: Mapping[str, nn.Module],
    *,
    rank: int,
    alpha: int,
    targets: Sequence[str],
    seed: int,
    old: bool,
    precision: Precision,
    pattern: str = "",
    dora: bool = False,
    rslora: bool = False,
) -> Weights:
    """Train low-rank float32 updates of the linear layers whose names end in `targets`, and freeze all else.

    With a `pattern` it is those whose whole names match it instead. `old` adds a frozen second adapter, equal to the
    first. Raises UserError for a target that is no linear layer, and a pattern that matches none.
    """
    from peft import LoraConfig, inject_adapter_in_model  # here, because peft imports transformers
    from peft.tuners.lora import LoraLayer

    from limner.engine.merged import merge_where_cheaper

    if not pattern:
        _check(networks, targets)
    chosen = _matching(networks, pattern) if pattern else list(targets)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=chosen, use_dora=dora, use_rslora=rslora)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # two adapters are what we want
        torch.manual_seed(Rng((seed, "lora")).seed())
        for network in networks.values():
            precision.freeze(network)
            inject_adapter_in_model(config, network, ADAPTERS["policy"])
            if old:
                inject_adapter_in_model(config, network, ADAPTERS["old"])
    layers = [m for network in networks.values() for m in network.modules() if isinstance(m, LoraLayer)]
    for layer in layers:
        if dora:
            _keep_lengths(layer)
        else:
            merge_where_cheaper(layer, rank)
    policy = _parameters(networks, ADAPTERS["policy"], trained=True)
    behaviour = _parameters(networks, ADAPTERS["old"], trained=False)
    switch = Switch(layers)
    names: list[Name] = ["policy", "reference", "old"] if old else ["policy", "reference"]
    weights = Weights(
        policy=policy,
        old=behaviour,
        roles={name: Role(networks, Selected(switch, name)) for name in names},
        replay=lambda: Selected(switch, switch.active),
    )
    weights.blend_old(0.0)
    return weights


class Switch:
    """Chooses the adapter of all LoRA layers at once, and leaves `requires_grad` alone (peft's own methods set it).

    It writes a private attribute of peft's layers, the list of adapters that run (`tests/engine/test_lora.py` guards
    what it means), and past `Module.__setattr__`, which is ten times slower than all the rest.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self.layers = [vars(layer) for layer in layers]
        self.active: Name = "policy"
        self._write("policy")

    def set(self, name: Name) -> None:
        if name != self.active:
            self._write(name)

    def _write(self, name: Name) -> None:
        adapters = [ADAPTERS[name]] if name in ADAPTERS else []
        for layer in self.layers:
            layer["_active_adapter"] = adapters
        self.active = name


class Selected(AbstractContextManager[None]):
    """The context in which one adapter runs; leaving it, by an exception too, brings back the one before."""

    def __init__(self, switch: Switch, name: Name) -> None:
        self.switch, self.name = switch, name
        self.before: list[Name] = []

    def __enter__(self) -> None:
        self.before.append(self.switch.active)
        self.switch.set(self.name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.switch.set(self.before.pop())


def _parameters(networks: Mapping[str, nn.Module], adapter: str, trained: bool) -> dict[str, nn.Parameter]:
    """Return an adapter's parameters as `network.layer.lora_A.weight`, made float32 and trained or frozen."""
    found: dict[str, nn.Parameter] = {}
    for network_name, network in networks.items():
        for name, parameter in network.named_parameters():
            if ".lora_" in name and f".{adapter}." in name:
                parameter.requires_grad_(trained)
                parameter.data = parameter.data.float()
                found[f"{network_name}.{name.replace(f'.{adapter}.', '.')}"] = parameter
    return found


def _keep_lengths(layer: Any) -> None:
    """Make each row's length that of its base by the sum that the forward pass takes, in float32: they are compared.

    In half precision, or added up in another order, the start would not be the base exactly.
    """
    for adapter, magnitude in layer.lora_magnitude_vector.items():
        nothing = magnitude.get_lora_weight(layer.lora_A[adapter].float(), layer.lora_B[adapter].float())
        magnitude.weight.data = magnitude.get_weight_norm(
            layer.base_layer.weight.float(), nothing, layer.scaling[adapter]
        ).detach()


def _matching(networks: Mapping[str, nn.Module], pattern: str) -> str:
    """Return a regular expression of exactly the linear layers whose whole names match the pattern."""
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise UserError(f"LoRA pattern {pattern!r} is no regular expression ({error})") from error
    found: list[str] = []
    for network_name, network in networks.items():
        linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
        matched = [name for name in linear if wanted.fullmatch(name)]
        if not matched:
            raise UserError(
                f"LoRA pattern {pattern!r} matches the whole name of no linear layer of network {network_name!r}, "
                f"such as {linear[len(linear) // 2]}"
            )
        found += matched
    return "|".join(map(re.escape, dict.fromkeys(found)))


def _check(networks: Mapping[str, nn.Module], targets: Sequence[str]) -> None:
    if not targets:
        raise UserError("LoRA has no target layers: name at least one")
    for network_name, network in networks.items():
        linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
        for target in targets:
            if not any(f".{name}".endswith(f".{target}") for name in linear):
                known = nearest(target, {name.rpartition(".")[2] for name in linear})
                raise UserError(f"LoRA target {target!r} is no linear layer of network {network_name!r}{known}")
