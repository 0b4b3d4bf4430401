"""What becomes of a trained LoRA: a part of the weights, or tensors that diffusers, peft and other tools read."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers.loaders import FluxLoraLoaderMixin
from diffusers.utils.peft_utils import recurse_remove_peft_layers
from peft import LoraConfig, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file
from torch import Tensor


@dataclass(frozen=True)
class Form:
    """How the LoRA of a pipeline's network is written, and by which lines of Python `pipe` reads it again.

    `{place}` in `read` stands for the expression of its folder; `imports` are what that line needs beside diffusers.
    """

    save: Callable[[Any, Path, Mapping[str, Tensor], Mapping[str, Any]], None]
    """(pipeline, folder, tensors by layer, metadata)"""
    read: str
    imports: tuple[str, ...] = ()


def save_lora(pipeline: Any, folder: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write a LoRA of the transformer as `pipeline.load_lora_weights(folder)` reads it."""
    pipeline.save_lora_weights(folder, transformer_lora_layers=tensors, transformer_lora_adapter_metadata=metadata)


def _save_of_network(pipeline: Any, folder: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    # Any pipeline whose network is called "transformer" writes the same file.
    FluxLoraLoaderMixin.save_lora_weights(
        folder, transformer_lora_layers=dict(tensors), transformer_lora_adapter_metadata=dict(metadata)
    )


def _save_for_peft(pipeline: Any, folder: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    write_peft(folder, tensors, metadata, None)


OF_PIPELINE = Form(save_lora, "pipe.load_lora_weights({place})")
OF_NETWORK = Form(_save_of_network, "pipe.transformer.load_lora_adapter({place}, use_safetensors=True)")
"""Of a pipeline that reads no LoRA, and whose transformer does."""
OF_PEFT = Form(
    _save_for_peft,
    "pipe.transformer = PeftModel.from_pretrained(pipe.transformer, {place}).merge_and_unload()",
    ("from peft import PeftModel",),
)
"""Of one that diffusers reads no LoRA for: peft adds it to the weights."""


def merged(network: Any, adapter: str) -> Any:
    """Return the network with its LoRA `adapter` added into a copy of its weights, or itself without one."""
    if not any(isinstance(module, BaseTunerLayer) for module in network.modules()):
        return network
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, BaseTunerLayer):
            module.merge(adapter_names=[adapter])
    recurse_remove_peft_layers(network)
    return network


def save_peft(network: Any, adapter: str, folder: Path, inside: str = "", task: str | None = "CAUSAL_LM") -> None:
    """Write the network's LoRA `adapter` as peft reads it for the model in which the network is called `inside`.

    There the layers are named in full: others of the model may have names that end alike. `task` is peft's name of what
    the model does, None of what it has no name for.
    """
    tensors, metadata = folded(network, adapter)
    if inside:
        tensors = {f"{inside}.{name}": each for name, each in tensors.items()}
        metadata |= {"target_modules": sorted({name.partition(".lora_")[0] for name in tensors})}
    write_peft(folder, tensors, metadata, task)


def write_peft(folder: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], task: str | None) -> None:
    """Write the tensors of a LoRA, by layer, as `PeftModel.from_pretrained(model, folder)` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {f"base_model.model.{name}": each.contiguous() for name, each in tensors.items()},
        folder / "adapter_model.safetensors",
    )
    LoraConfig(**{**metadata, "task_type": task}).save_pretrained(folder)


def folded(network: Any, adapter: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of the network's LoRA `adapter`, its scale folded into B, and its metadata.

    Many tools read the tensors and nothing else, and take alpha for the rank: so it is, in the metadata too, and a
    scale of alpha / sqrt(rank) is no longer told.
    """
    config = network.peft_config[adapter]
    scale = config.lora_alpha / (math.sqrt(config.r) if config.use_rslora else config.r)
    tensors = get_peft_model_state_dict(network, adapter_name=adapter)
    tensors = {name: scale * each if "lora_B" in name else each for name, each in tensors.items()}
    return tensors, config.to_dict() | {"lora_alpha": config.r, "use_rslora": False}
