"""Context parallelism: the processes of a crew share the tokens of each pass, by diffusers' own hooks.

A network's plan (`_cp_plan`) says which inputs are cut along their tokens, and which answer is put together again:
between the two each process computes its own tokens. Attention is Ulysses': before it processes exchange tokens for
heads, so that each has all tokens of its share of the heads, and behind it the other way round. So every process has
the whole answer, and the gradient that its tokens give; the sum of these is that of the whole.

Source: DeepSpeed-Ulysses, Jacobs et al., arXiv 2309.14509, section 3.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

import torch
from diffusers.hooks import context_parallel
from diffusers.models._modeling_parallel import ContextParallelConfig, ParallelConfig
from torch import nn

from limner.core.errors import UserError
from limner.core.team import Crew

CONFIG = "_parallel_config"
"""diffusers' name of what an attention is told."""
Counted = Callable[[Any, Mapping[str, Any]], Mapping[str, int]]
"""(network, its inputs) -> the tokens that are shared out, by what they are of."""


def _of_clips(network: Any, given: Mapping[str, Any]) -> Mapping[str, int]:
    sides = zip(given["hidden_states"].shape[2:], network.config.patch_size, strict=True)
    return {"a clip": math.prod(side // patch for side, patch in sides)}


def _of_pictures(network: Any, given: Mapping[str, Any]) -> Mapping[str, int]:
    return {"a picture": given["hidden_states"].shape[1], "its text": given["encoder_hidden_states"].shape[1]}


KNOWN: Mapping[str, Counted] = {"WanTransformer3DModel": _of_clips, "FluxTransformer2DModel": _of_pictures}
"""Networks whose predictions and gradients are compared with one process's. Others of diffusers have a plan, of which
LTX's fails at the mask of its texts, FLUX.2's at ids without a batch, and Qwen-Image's at texts of other lengths."""


def share(networks: Iterable[nn.Module], crew: Crew) -> None:
    """Have the processes of a crew share the tokens of each pass of these networks.

    diffusers' `enable_parallelism` asks for an accelerator; this is what it does, on any device. Raises UserError for a
    network that is not known, or with heads that cannot be shared out, and, in its first pass, for tokens that cannot.
    """
    logging.getLogger(context_parallel.__name__).setLevel(logging.ERROR)  # of plans for inputs that are not there
    warnings.filterwarnings("ignore", ".*all_gather_tensor", FutureWarning)
    exchange = ContextParallelConfig(ulysses_degree=crew.size, mesh=crew.mesh)
    every = {id(each): each for each in networks}.values()
    for network in every:
        _require_shareable(network, crew.size)
    told = ParallelConfig(context_parallel_config=exchange)
    told.setup(crew.place, crew.size, torch.device(crew.mesh.device_type), mesh=crew.mesh)
    for network in every:
        for attention in _attentions(network):
            attention.processor._parallel_config = told
        _watch(network, crew.size)
        context_parallel.apply_context_parallel(network, exchange, cast(Any, network)._cp_plan)


def _attentions(network: nn.Module) -> Iterator[Any]:
    """Yield the attentions that can be told how tokens are shared."""
    for module in network.modules():
        if "processor" in dir(module) and CONFIG in dir(module.processor):
            yield module


def _require_shareable(network: nn.Module, size: int) -> None:
    """Raise UserError for a network that is not known, or whose number of heads is no multiple of `size`."""
    kind = type(network).__name__
    if kind not in KNOWN:
        raise UserError(
            f"context {size}: limner cannot share out the tokens of a {kind}, only of {', '.join(KNOWN)}: take "
            "context 1"
        )
    for heads in sorted({attention.heads for attention in _attentions(network)}):
        if heads % size:
            fit = [str(n) for n in range(2, heads + 1) if heads % n == 0]
            raise UserError(
                f"context {size} shares out the heads of each attention, and those of this {kind} are {heads}, no "
                f"multiple of it: take context {' or '.join(fit) or '1'}"
            )


def _watch(network: nn.Module, size: int) -> None:
    """Raise UserError, in the first pass, for inputs whose tokens are no multiple of `size`."""

    def before(module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        for what, tokens in KNOWN[type(network).__name__](network, named).items():
            if tokens % size:
                raise UserError(
                    f"context {size} shares out tokens, of which {what} has {tokens}, no multiple of it: change "
                    "model.settings (resolution, num_frames, max_sequence_length), or take another context"
                )

    network.register_forward_pre_hook(before, with_kwargs=True)
