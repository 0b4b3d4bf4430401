"""Processes that hold a part of the weights each make every pass together, whoever needs it.

A pass of a network brings its weights together from all processes, block by block, and a backward pass adds up their
gradients: one process cannot make it by itself. But processes have different work: uneven shares, samples that could
not be judged, two experts of which each time asks one. So before each pass they say what they want next, in one number,
and make what the largest of these numbers stands for: whoever wants it for its own data, the others with the inputs
that they had last, whose answer nobody reads and whose gradient is zero. One that has come to where all meet wants
nothing, and goes on when all do. The order of passes is then the same everywhere, and nobody else has to know.

Three things are asked of those who compute: what is computed with gradients is in a loss, a loss that was computed is
given to `backward`, finite or not, and weights are written to where all have met.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any
from weakref import ref

import torch
from torch import Tensor, distributed, nn

from limner.core.team import among_peers
from limner.core.tree import leaves, tree_map
from limner.core.types import Tree
from limner.engine.precision import Precision

NOTHING, BACKWARD, FORWARD = 0, 1, 2
"""What may be wanted. A pass of network k is FORWARD + 2 k without gradients, and one more with them. A backward pass
waits for all others: it is of everything that was computed since the last."""


@dataclass
class _Watched:
    """A network, the hooks that its spread weights need, and what it was given last."""

    network: Callable[[], nn.Module | None]
    hooks: frozenset[int]
    seen: tuple[tuple[Any, ...], dict[str, Any]] | None = None


class Lockstep:
    """The company of a team whose weights are spread (`core/team.py`)."""

    def __init__(self, precision: Precision) -> None:
        self.precision = precision
        self.group = distributed.new_group(backend="gloo")  # on the host: no pass waits for an accelerator
        self.watched: list[_Watched] = []
        self.answers: list[Tensor] = []
        """Of passes that were made with others, the next backward pass is of these too."""

    def watch(self, network: nn.Module, spread: Callable[[], None]) -> None:
        """Spread the weights of a network, and from then on let nobody pass through it alone."""
        before = set(network._forward_pre_hooks)
        spread()
        added = frozenset(set(network._forward_pre_hooks) - before)
        place = len(self.watched)
        self.watched.append(_Watched(ref(network), added))

        def before_pass(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            self.watched[place].seen = tree_map(Tensor.detach, inputs), tree_map(Tensor.detach, named)
            self._until(FORWARD + 2 * place + torch.is_grad_enabled())

        network.register_forward_pre_hook(before_pass, prepend=True, with_kwargs=True)

    def meet(self) -> None:
        """Take part in the passes that others still make, until all have come here."""
        self._until(NOTHING)
        self.answers.clear()

    def backward(self, loss: Tensor) -> None:
        """Make a loss's backward pass, and leave in each parameter its part of all processes' gradients."""
        self._until(BACKWARD)
        self._learn([loss], [torch.ones_like(loss)])

    def _until(self, wanted: int) -> None:
        """Make with others what they want, until it is `wanted` that is to be made."""
        while (asked := self._asked(wanted)) != wanted:
            if asked == BACKWARD:
                self._learn([], [])
            else:
                self._pass(*divmod(asked - FORWARD, 2))

    def _asked(self, wanted: int) -> int:
        """Return the largest of what processes want."""
        asked = torch.tensor(wanted)
        with among_peers():
            distributed.all_reduce(asked, distributed.ReduceOp.MAX, self.group)
        return int(asked)

    def _learn(self, losses: list[Tensor], gradients: list[Tensor]) -> None:
        """Go backwards from losses, and with a gradient of zero from what was computed with others."""
        nothing = [torch.zeros_like(answer) for answer in self.answers]
        torch.autograd.backward([*losses, *self.answers], [*gradients, *nothing])
        self.answers.clear()

    def _pass(self, place: int, learns: int) -> None:
        """Make a pass of a network for others' sake: no evaluation is counted, and nothing is announced."""
        network = self.watched[place].network()
        assert network is not None, "a network that others still use was given up here"
        inputs, named = self._inputs(place)
        quiet, needed = copy(network), self.watched[place].hooks
        quiet._forward_pre_hooks = OrderedDict(
            (key, hook) for key, hook in network._forward_pre_hooks.items() if key in needed
        )
        with torch.set_grad_enabled(bool(learns)), self.precision.context(next(network.parameters()).device):
            answer: Tree = quiet(*inputs, **named)
        if learns:
            self.answers += [tensor for tensor in leaves(_plain(answer)) if tensor.requires_grad]

    def _inputs(self, place: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what the network was given last, or another one, which is of the same form."""
        seen = [self.watched[place].seen, *(each.seen for each in self.watched)]
        found = next((each for each in seen if each is not None), None)
        assert found is not None, "others pass through a network before this process has seen anything"
        return found


def _plain(answer: Any) -> Tree:
    return dict(answer) if isinstance(answer, Mapping) else answer
