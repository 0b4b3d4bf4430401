"""Loading what a vision reward needs, once a process, with errors that name the reward."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from limner.core.errors import UserError
from limner.core.paths import path_of
from limner.core.quiet import no_bars


def pretrained(reward: str, kind: str, path: str) -> Any:
    """Return transformers' `kind` (a model, processor, tokenizer or config) from a folder or hub id.

    A model is in float32, in evaluation mode, and frozen: gradients pass through it to the pixels. Rewards that name
    the same one share it. Raises UserError if there is none.
    """
    return _or_refused(reward, kind, path, _load)


def loaded(reward: str, kind: str, path: str) -> Any:
    """Return the same as `pretrained`, loaded anew: for whoever changes it."""
    return _or_refused(reward, kind, path, _load.__wrapped__)


def _or_refused(reward: str, kind: str, path: str, load: Callable[[str, str], Any]) -> Any:
    try:
        return load(kind, path)
    except (OSError, ValueError) as error:
        raise UserError(f"{reward}: cannot load {kind} from {path!r}: {str(error).splitlines()[0]}") from error


@functools.cache
def _load(kind: str, path: str) -> Any:
    import transformers  # seconds to import: not before a reward is asked

    with no_bars():
        loaded = getattr(transformers, kind).from_pretrained(path)
    return frozen(loaded) if isinstance(loaded, nn.Module) else loaded


def frozen(model: nn.Module) -> nn.Module:
    """Return the model in float32 and evaluation mode, its weights without gradient."""
    return model.float().eval().requires_grad_(False)


def read_weights(reward: str, path: str) -> Mapping[str, Tensor]:
    """Return the tensors of a .safetensors file, or of a checkpoint that holds tensors only (nothing in it is run).

    Raises UserError if the file cannot be read so.
    """
    file = path_of(path, reward)
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise UserError(f"{reward}: cannot read weights from {path!r}: {str(error).splitlines()[0]}") from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else {}
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{reward}: {path!r} holds no state dict of tensors")
    return dict(state)


def fill(reward: str, model: nn.Module, state: Mapping[str, Tensor], path: str) -> nn.Module:
    """Return the model with exactly these weights, frozen. Raises UserError if names or shapes differ."""
    try:
        model.load_state_dict(dict(state))
    except RuntimeError as error:
        raise UserError(
            f"{reward}: the weights in {path!r} do not fit: {' '.join(str(error).split())[:200]}"
        ) from error
    return frozen(model)
