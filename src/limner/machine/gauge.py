"""What a network's own code takes, found out without its weights: it runs on tensors that have a shape and no numbers.

A network made on the meta device holds nothing. As `phantoms` its tensors say that they are on the CPU, so that
autocast and fused attention are what they are in a run; a `Gauge` adds up what is alive, and what is computed.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

CPU = torch.device("cpu")
UNKNOWN = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default)
"""Operations that ask for a number where there is none: the answer is 1, and yes, but for lengths."""
LENGTH = torch.ops.aten.sum
CHOSEN = torch.ops.aten.index.Tensor
PLACES = torch.ops.aten.nonzero.default
"""Where a mask is true: as many places as it has."""
BEST, EQUAL, OTHERS = torch.ops.aten.topk, torch.ops.aten.eq, torch.ops.aten.bitwise_not
"""Which of E experts a token goes to, the tokens of one expert, and all places that a mask does not choose."""
ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
FLOPS: Mapping[Any, Callable[..., int]] = flop_registry | {
    ATTENTION: flop_registry[torch.ops.aten._scaled_dot_product_flash_attention],
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
        torch.ops.aten._scaled_dot_product_flash_attention_backward
    ],
}
"""torch's own formulas; those of fused attention hold on a CPU as well."""


def phantoms(networks: Iterable[nn.Module], mode: FakeTensorMode) -> None:
    """Replace all tensors of modules on the meta device by ones that pretend to be on the CPU; shared ones stay so."""
    made: dict[int, tuple[Tensor, Tensor]] = {}

    def phantom(tensor: Tensor) -> Tensor:
        if id(tensor) not in made:
            fake = FakeTensor(mode, tensor.detach().to("meta"), CPU)
            weight = isinstance(tensor, nn.Parameter)
            made[id(tensor)] = tensor, nn.Parameter(fake, tensor.requires_grad) if weight else fake
        return made[id(tensor)][1]

    for module in (module for network in networks for module in network.modules()):
        for held in (vars(module)["_parameters"], vars(module)["_buffers"]):
            held.update({name: phantom(each) for name, each in held.items() if each is not None})


@dataclass
class Lap:
    """A part of what a gauge measures: bytes alive when it began, when it was told to note them, and in the end."""

    alive: list[int]
    peak: int = 0


class Gauge(TorchDispatchMode):
    """Adds up the bytes of tensors that are made inside and still alive, their peak, and the operations of products.

    `owned` are tensors that were there before, and views of them, which cost nothing. A product of n x k by k x m
    counts 2 n k m. Tensors are told apart by their storages. A mask chooses all that it could, which costs most: the
    sum of one is as large as it can be, and what it does not choose is nothing. Each of some experts is chosen equally
    often.
    """

    def __init__(self, owned: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.alive = self.peak = self.flops = 0
        self.laps: list[Lap] = []
        self._lap = Lap([0])
        self.attended = 0
        """The longest sequence that attention ran over."""
        self._bytes: dict[int, int] = {tensor.untyped_storage()._cdata: 0 for tensor in owned}
        self._lengths: dict[int, int] = {}
        self._experts: dict[int, int] = {}
        self._shares: dict[int, float] = {}

    def __torch_dispatch__(
        self, operation: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Carry out one operation, and count it."""
        if operation in UNKNOWN:
            return self._lengths.get(_key(args[0]), 1)
        named = dict(kwargs or {})
        if operation is CHOSEN:
            args = (args[0], self._chosen(args[1]))
        found = _everywhere(args[0]) if operation is PLACES else operation(*args, **named)
        for tensor in tree_leaves(found):
            if isinstance(tensor, Tensor):
                self._count(tensor)
        self._follow(operation.overloadpacket, args, found)
        if operation.overloadpacket is LENGTH and not args[0].is_floating_point():
            self._lengths[_key(found)] = args[0].numel() // found.numel()
        if (product := FLOPS.get(operation.overloadpacket)) is not None:
            self.flops += product(*args, **named, out_val=found)
        if operation.overloadpacket is ATTENTION:
            self.attended = max(self.attended, args[0].shape[-2])
        return found

    def _follow(self, operation: Any, args: tuple[Any, ...], found: Any) -> None:
        """Note of how many experts a number is one, and what share of its places a mask chooses."""
        if operation is BEST:
            self._experts[_key(found[1])] = args[0].shape[-1]
        elif operation is EQUAL and _key(args[0]) in self._experts:
            self._shares[_key(found)] = 1 / self._experts[_key(args[0])]
        elif operation is OTHERS and found.dtype is torch.bool:
            self._shares[_key(found)] = 1 - self._shares.get(_key(args[0]), 1.0)

    def _chosen(self, indices: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Return places where masks stood, as many as they choose; which ones makes no difference without numbers."""
        found: list[Tensor | None] = []
        for each in indices:
            if each is None or each.dtype not in (torch.bool, torch.uint8):
                found.append(each)
            else:
                places = math.ceil(self._shares.get(_key(each), 1.0) * each.numel())
                found += [torch.empty(places, dtype=torch.long)] * each.dim()
        return found

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._bytes:
            return
        self._bytes[key] = storage.nbytes()
        self.alive += self._bytes[key]
        self.peak, self._lap.peak = max(self.peak, self.alive), max(self._lap.peak, self.alive)
        weakref.finalize(storage, self._forget, key)

    def note(self) -> None:
        """Keep in mind what is alive now."""
        self._lap.alive.append(self.alive)

    def lap(self) -> None:
        """End a part of what is measured, and begin another."""
        self.note()
        self.laps.append(self._lap)
        self._lap = Lap([self.alive], self.alive)

    def _forget(self, key: int) -> None:
        self.alive -= self._bytes.pop(key)
        for noted in (self._lengths, self._experts, self._shares):
            noted.pop(key, None)


def _everywhere(mask: Tensor) -> Tensor:
    """Return a row for each number of a mask, as if all were true."""
    return torch.empty(mask.numel(), mask.dim(), dtype=torch.long)


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def transient(action: Callable[[], Any], owned: Iterable[Tensor]) -> Gauge:
    """Return what `action` took beyond the tensors `owned`."""
    gauge = Gauge(owned)
    with gauge:
        action()
    return gauge
