"""A pipeline that its owner has in memory: what limner trains is a copy, and the owner's stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from limner.core.errors import UserError
from limner.core.quiet import in_silence
from limner.models.folder import edition_of, require_served, served_index
from limner.models.parts import TEXT_ENCODERS, Pipeline


def copied(pipeline: Any, trained: Sequence[str], dtype: torch.dtype, adapter: str, classes: Sequence[str]) -> Any:
    """Return an equal pipeline, as a folder of it would load: the autoencoder in float32, the rest in `dtype`.

    The networks `trained` are copies; all others are new modules over the owner's own tensors, which cost no memory
    until they are moved or cast, and are never written. Raises UserError for a pipeline of another class than
    `classes`, one that is spread over devices or quantised, and one whose trained networks have a LoRA.
    """
    require_served(type(pipeline).__name__, "the pipeline", adapter, classes)
    parts = {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
    if any("_hf_hook" in vars(module) for part in parts.values() for module in part.modules()):
        raise UserError("model: the pipeline moves its parts as it needs them (offload, device_map); give one without")
    if any(vars(part).get("hf_quantizer") is not None for part in parts.values()):
        raise UserError("model: the pipeline is quantised, and what is trained must not be; give one that is not")
    for name in trained:
        if name in parts and any(isinstance(module, BaseTunerLayer) for module in parts[name].modules()):
            raise UserError(
                f"model: the pipeline's {name} has a LoRA; make it part of the weights first, by pipeline.fuse_lora() "
                "and pipeline.unload_lora_weights()"
            )
    shared: dict[int, Any] = {}
    for name, part in parts.items():
        if name not in trained:
            shared |= {id(parameter): nn.Parameter(parameter.detach(), False) for parameter in part.parameters()}
            shared |= {id(buffer): buffer.detach() for buffer in part.buffers()}
    made = copy.deepcopy(pipeline, shared)
    for name in parts:
        nn.Module.to(made.components[name], torch.float32 if name == "vae" else dtype)  # past what diffusers says of it
    return made


def moved(pipeline: Pipeline, device: torch.device | str) -> Pipeline:
    """Return the pipeline, there, past what diffusers says of float16 on a CPU: autocast carries it out.

    Text encoders are not brought to a card; those who encode do that, if they are to be there (`engine.encoders`).
    """
    apart = "cpu" if torch.device(device).type == "cuda" else device
    with in_silence():
        for name, part in pipeline.components.items():
            if isinstance(part, nn.Module):
                part.to(apart if name in TEXT_ENCODERS else device)
    return pipeline


def opened(
    source: Any,
    adapter: str,
    serves: Sequence[str],
    trained: Sequence[str],
    dtype: torch.dtype,
    device: torch.device | str,
    load: Callable[[Mapping[str, Any]], Any],
) -> Any:
    """Return a copy of a pipeline that is in memory, or what `load(index)` makes of a folder or hub id, there.

    A hollow one stays on the CPU, and the meta device.
    Raises UserError for what the `adapter` does not serve, without touching the network for what looks like a path.
    """
    if isinstance(source, DiffusionPipeline):
        return moved(copied(source, trained, dtype, adapter, serves), device)
    pipeline = load(served_index(source, adapter, serves))
    return pipeline if edition_of(source).hollow else moved(pipeline, device)
