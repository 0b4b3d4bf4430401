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
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.hooks import context_parallel
from diffusers.models._modeling_parallel import (
    ContextParallelConfig,
    ContextParallelInput,
    ContextParallelOutput,
    ParallelConfig,
)
from torch import nn

from limner.core.errors import UserError
from limner.core.team import Crew

CONFIG = "_parallel_config"
"""diffusers' name of what an attention is told."""
Counted = Callable[[Any, Mapping[str, Any]], Mapping[str, int]]
"""(network, its inputs) -> the tokens that are shared out, by what they are of."""


def _of_clips(network: Any, given: Mapping[str, Any]) -> Mapping[str, int]:
    config, (frames, *sides) = network.config, given["hidden_states"].shape[2:]
    patch = config.patch_size if "patch_size_t" not in config else (config.patch_size_t, *[config.patch_size] * 2)
    return {"a clip": math.prod(side // each for side, each in zip((frames, *sides), patch, strict=True))}


def _of_clips_in_a_row(network: Any, given: Mapping[str, Any]) -> Mapping[str, int]:
    return {"a clip": given["hidden_states"].shape[1]}


def _of_texts(network: Any, given: Mapping[str, Any]) -> Mapping[str, int]:
    return {"its text": given["encoder_hidden_states"].shape[1]}


def _of_pictures(network: Any, given: Mapping[str, Any]) -> Mapping[str, int]:
    return {"a picture": given["hidden_states"].shape[1], **_of_texts(network, given)}


def _of_clips_and_texts(network: Any, given: Mapping[str, Any]) -> Mapping[str, int]:
    return {**_of_clips(network, given), **_of_texts(network, given)}


@dataclass(frozen=True)
class Way:
    """How a network's tokens are shared out, by diffusers' own plan or another one, and what each does whole."""

    counted: Counted
    plan: Mapping[str, Any] | None = None
    """None: the network's own."""
    whole: str = ""
    """Name, or its end, of modules whose attentions each process computes for itself."""
    masked: str = ""
    """A module that reads the mask of all of a text, where a plan cuts it for what follows."""


def _made(dim: int, dims: int) -> ContextParallelInput:
    """Return the plan for what a module makes: it is cut along `dim` of its `dims`."""
    return ContextParallelInput(split_dim=dim, expected_dims=dims, split_output=True)


_ANSWER = {"proj_out": ContextParallelOutput(gather_dim=1, expected_dims=3)}
_OF_LTX = {
    "": {"hidden_states": ContextParallelInput(split_dim=1, expected_dims=3)},
    "rope": {0: _made(1, 3), 1: _made(1, 3)},
    **_ANSWER,
}
"""diffusers' own cuts the texts too, and fails at their mask; here each process reads them whole, as Wan's does."""
_OF_HUNYUAN_VIDEO = {
    "": {"encoder_attention_mask": ContextParallelInput(split_dim=1, expected_dims=2)},
    "x_embedder": {0: _made(1, 3)},
    "context_embedder": {0: _made(1, 3)},
    "rope": {0: _made(0, 2), 1: _made(0, 2)},
    **_ANSWER,
}
"""diffusers has none: clip and texts are cut behind what embeds them, and the mask so that it is of a share's texts."""

KNOWN: Mapping[str, Way] = {
    "WanTransformer3DModel": Way(_of_clips),
    "LTXVideoTransformer3DModel": Way(_of_clips_in_a_row, _OF_LTX, whole="attn2"),
    "HunyuanVideoTransformer3DModel": Way(
        _of_clips_and_texts, _OF_HUNYUAN_VIDEO, whole="context_embedder", masked="context_embedder"
    ),
    "FluxTransformer2DModel": Way(_of_pictures),
    "Flux2Transformer2DModel": Way(_of_pictures),
    "QwenImageTransformer2DModel": Way(_of_pictures),
}
"""Networks whose predictions and gradients are compared with one process's. The attention of others (CogVideoX, Mochi,
SD3, SANA, PixArt, CogView4) calls torch itself, past the place where diffusers exchanges tokens; Chroma, Z-Image and
HunyuanImage have no plan there."""


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
        way = KNOWN[type(network).__name__]
        for attention in _attentions(network):
            attention.processor._parallel_config = told
        _watch(network, crew.size)
        if way.masked:
            _show_all(network, network.get_submodule(way.masked))
        plan = cast(Any, network)._cp_plan if way.plan is None else dict(way.plan)
        context_parallel.apply_context_parallel(network, exchange, plan)


def _attentions(network: nn.Module) -> Iterator[Any]:
    """Yield the attentions that can be told how tokens are shared, but those that each process computes whole."""
    whole = KNOWN[type(network).__name__].whole
    for name, module in network.named_modules():
        if "processor" in dir(module) and CONFIG in dir(module.processor):
            if not whole or whole not in name.split("."):
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
        for what, tokens in KNOWN[type(network).__name__].counted(network, named).items():
            if tokens % size:
                raise UserError(
                    f"context {size} shares out tokens, of which {what} has {tokens}, no multiple of it: change "
                    "model.settings (resolution, num_frames, max_sequence_length), or take another context"
                )

    network.register_forward_pre_hook(before, with_kwargs=True)


def _show_all(network: nn.Module, reader: nn.Module) -> None:
    """Have `reader` see the whole mask of the texts, its last argument, which the plan cuts before it is handed on."""
    seen: list[Any] = []

    def before(module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen[:] = [named["encoder_attention_mask"]]

    network.register_forward_pre_hook(before, with_kwargs=True)
    reader.register_forward_pre_hook(lambda module, given: (*given[:-1], *seen))
