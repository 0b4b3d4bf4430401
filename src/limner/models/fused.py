"""LoRAs that are part of the base: frozen, at a weight, in every form that diffusers reads.

They are added to the weights, W + w s B A, as `pipeline.fuse_lora` does: a run costs no more with them than without.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.lora_base import LoraBaseMixin
from safetensors import SafetensorError
from torch import nn

from limner.core.errors import UserError
from limner.core.paths import weighed
from limner.core.quiet import in_silence
from limner.models.arranged import OfPipeline, arrange_autoencoder
from limner.models.parts import MAX_REASON

ADAPTER = "fused"


def prepare(model: object, loras: Sequence[str], place: str, tiling: bool) -> None:
    """Do to a loaded model what its configuration asks of the base: `fuse`, and `arrange_autoencoder`."""
    if loras:
        fuse(model, loras)
    if place != "device" or tiling:
        arrange_autoencoder(model, place, tiling)


def fuse(model: object, loras: Sequence[str]) -> None:
    """Add LoRAs to the weights of a model that was loaded from a folder, its text encoders too.

    Raises UserError, one line, for what is no LoRA, or one of another kind of model.
    """
    if not isinstance(model, OfPipeline):
        raise UserError("model.loras are read by pipelines of diffusers, and this model has none: leave them out")
    if not isinstance(model.pipeline, LoraBaseMixin):
        kind = type(model.pipeline).__name__
        raise UserError(
            f"model.loras: diffusers reads no LoRA for a {kind}; merge it into the weights of the base first"
        )
    for lora in loras:
        place, weight = weighed(lora)
        if not math.isfinite(weight):
            raise UserError(f"model.loras {lora}: a weight is a number, as in {place}@0.8")
        _fuse(model.pipeline, _file(lora, place), weight, lora)


def _file(lora: str, place: Path) -> Path:
    if place.is_file():
        return place
    files = sorted(place.glob("*.safetensors")) if place.is_dir() else []
    if len(files) != 1:
        there = f"holds {len(files)} .safetensors" if place.is_dir() else "is not there"
        raise UserError(f"model.loras {lora}: {place} {there}; name the file of one LoRA, or a folder with one")
    return files[0]


def _fuse(pipeline: Any, file: Path, weight: float, lora: str) -> None:
    parts = {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
    flags = {name: [each.requires_grad for each in part.parameters()] for name, part in parts.items()}
    loadable = [name for name in pipeline._lora_loadable_modules if name in parts]
    where = {"weight_name": file.name, "local_files_only": True}
    try:
        with in_silence():
            read = pipeline.lora_state_dict(file.parent, **where)
            tensors = read[0] if isinstance(read, tuple) else read
            pipeline.load_lora_weights(file.parent, adapter_name=ADAPTER, **where)
    except (ValueError, KeyError, OSError, RuntimeError, AttributeError, TypeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:MAX_REASON] or type(error).__name__
        raise UserError(f"model.loras {lora} is no LoRA that fits this model ({reason})") from error
    told = sum("lora" in name and "alpha" not in name for name in tensors)
    found = [
        name for part in parts.values() for name, _ in part.named_parameters() if ".lora_" in name and ADAPTER in name
    ]
    if not found or len(found) != told:
        raise UserError(
            f"model.loras {lora}: {len(found)} of its {told} weights have a place in this model; is it of another kind?"
        )
    if not all(bool(each.isfinite().all()) for each in tensors.values() if isinstance(each, torch.Tensor)):
        raise UserError(f"model.loras {lora}: some of its weights are not finite")
    with in_silence():
        pipeline.fuse_lora(components=loadable, lora_scale=weight, adapter_names=[ADAPTER])
        pipeline.unload_lora_weights()
    for name, part in parts.items():
        for parameter, flag in zip(part.parameters(), flags[name], strict=True):
            parameter.requires_grad_(flag)
