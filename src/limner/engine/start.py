"""Where a run starts, if not from its base: exported low-rank updates, or exported networks.

Read are the `.safetensors` that limner, diffusers and peft write: a LoRA as `layer.lora_A.weight` or
`layer.lora.down.weight`, under the network's name or peft's own prefix, with its alpha in the file's metadata or in
adapter_config.json (without either, its scale is 1); a network as its state, in one file or in several.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from limner.core.errors import UserError
from limner.engine.weights import Weights

LORA = re.compile(r"\.lora(_A|_B|\.down|\.up|_magnitude_vector)(\.weight)?$")
LENGTHS = "lora_magnitude_vector.weight"
PARTS = {
    "_A": "lora_A.weight", ".down": "lora_A.weight", "_B": "lora_B.weight", ".up": "lora_B.weight",
    "_magnitude_vector": LENGTHS,
}  # fmt: skip
PREFIX = "base_model.model."


@dataclass(frozen=True)
class Updates:
    """Low-rank updates, scale included, as `network.layer.lora_A.weight` and `lora_B`, and where they come from.

    Those of a DoRA have a `lora_magnitude_vector.weight` too, the lengths of the sum's rows.
    """

    source: str
    tensors: Mapping[str, Tensor]

    def merge(self, networks: Mapping[str, nn.Module]) -> None:
        """Add them to the networks' own weights: W <- W + B A, rows brought to length m, if told. Raises UserError if
        they do not fit."""
        with torch.no_grad():
            for name, a in self.tensors.items():
                if not name.endswith(".lora_A.weight"):
                    continue
                layer, b = name.removesuffix(".lora_A.weight"), self.tensors.get(name.replace("lora_A", "lora_B"))
                network, _, inside = layer.partition(".")
                found = dict(networks[network].named_modules()).get(inside) if network in networks else None
                if b is None or not isinstance(found, nn.Linear) or found.weight.shape != (len(b), a.shape[1]):
                    raise UserError(f"{self.source}: {layer} is no linear layer of that shape in this model")
                lengths = self.tensors.get(f"{layer}.{LENGTHS}")
                if lengths is None:
                    found.weight += (b @ a).to(found.weight)
                    continue
                summed = found.weight.float() + (b @ a).to(found.weight.device)
                scale = lengths.to(summed).flatten() / summed.norm(dim=1)
                found.weight.copy_(scale[:, None] * summed)

    def into(self, weights: Weights, networks: Mapping[str, nn.Module]) -> None:
        """Put them where training starts: into the policy's updates, and the old policy's.

        Raises UserError unless layers, ranks and shapes are the same.
        """
        mine = weights.parameters()
        if odd := sorted(mine.keys() ^ self.tensors.keys()):
            raise UserError(
                f"{self.source}: {len(odd)} of its low-rank weights and of those that are trained have no "
                f"counterpart, first {odd[0]}; set model.train.{'dora' if LENGTHS in odd[0] else 'targets'} as it was"
            )
        for name, tensor in self.tensors.items():
            if mine[name].shape != tensor.shape:
                there, here = (min(shape) for shape in (tensor.shape, mine[name].shape))
                raise UserError(
                    f"{self.source}: {name} has shape {tuple(tensor.shape)}, here {tuple(mine[name].shape)}"
                    + (f"; set model.train.rank to {there}" if there != here else "")
                )
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                network, _, inside = name.partition(".")
                layer: Any = networks[network].get_submodule(inside.rpartition(".lora_")[0])
                own = layer.scaling["default"] if ".lora_B." in name else 1.0
                mine[name].copy_(tensor / own)
        weights.blend_old(0.0)


def start_from(place: str, networks: Mapping[str, nn.Module], key: str = "model.start") -> Updates | None:
    """Return the low-rank updates of a file or folder; of exported networks load the weights, and return None.

    Raises UserError, one line, for what is neither, is damaged, or does not fit; `key` is what gave the place.
    """
    source = f"{key} {place}"
    files = _files(source, Path(place).expanduser())
    tensors, metadata = _read(source, files)
    network = next(iter(networks))
    if any(LORA.search(name) for name in tensors):
        scale = _scale(source, files[0].parent, metadata, network)
        found: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            known = _renamed(name, networks)
            if known is None:
                raise UserError(f"{source}: {name} is of a form that is not read; export it by diffusers")
            found[known] = tensor.float() * (scale if ".lora_B." in known else 1.0)
        return Updates(source, found)
    mine = networks[network].state_dict()
    odd = sorted(mine.keys() ^ tensors.keys()) or [n for n, t in mine.items() if t.shape != tensors[n].shape]
    if odd:
        raise UserError(f"{source}: it is of another network: {len(odd)} weights do not fit, first {odd[0]}")
    networks[network].load_state_dict(tensors)
    return None


def _files(source: str, place: Path) -> list[Path]:
    if place.is_file() and place.suffix == ".safetensors":
        return [place]
    if (place / "config.yaml").is_file():
        raise UserError(f"{source} is a run folder; give what it exported: {place / 'export'}")
    if (place / "model_index.json").is_file():
        raise UserError(f"{source} is a whole pipeline: give it as the model")
    files = sorted(place.glob("*.safetensors")) if place.is_dir() else []
    if not files:
        what = (
            "holds no .safetensors"
            if place.is_dir()
            else "is no .safetensors file"
            if place.exists()
            else "is not there"
        )
        raise UserError(f"{source} {what}; give an exported LoRA or network")
    return files


def _read(source: str, files: list[Path]) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                metadata |= opened.metadata() or {}
                tensors |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise UserError(f"{source}: {file.name} cannot be read ({error})") from error
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise UserError(f"{source}: some of its weights are not finite")
    return tensors, metadata


def _scale(source: str, folder: Path, metadata: Mapping[str, str], network: str) -> float:
    """Return alpha / rank, as the file's metadata or peft's configuration has it."""
    config = folder / "adapter_config.json"
    try:
        if "lora_adapter_metadata" in metadata:
            flat = json.loads(metadata["lora_adapter_metadata"])
            told = {key.removeprefix(f"{network}."): value for key, value in flat.items()}
        else:
            told = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
        if told.get("rank_pattern") or told.get("alpha_pattern"):
            raise UserError(f"{source}: ranks of single layers are not read")
        rank = told.get("r", 1)
        return told.get("lora_alpha", rank) / (math.sqrt(rank) if told.get("use_rslora") else rank)
    except (ValueError, TypeError, AttributeError, ZeroDivisionError, RecursionError) as error:
        raise UserError(f"{source}: its rank and alpha cannot be read ({error})") from error


def _renamed(name: str, networks: Mapping[str, nn.Module]) -> str | None:
    """Return what limner calls an update's weight, or None if it is none."""
    found = LORA.search(name)
    if found is None:
        return None
    layer = name[: found.start()].removeprefix(PREFIX)
    if layer.partition(".")[0] not in networks:
        layer = _inside(layer, *next(iter(networks.items())))
    return f"{layer}.{PARTS[found[1]]}"


def _inside(layer: str, name: str, network: nn.Module) -> str:
    """Return a layer as `name.layer`; peft's files name it as the whole model has it, in which the network may lie."""
    known, inside = dict(network.named_modules()), layer
    while inside and inside not in known:
        inside = inside.partition(".")[2]
    return f"{name}.{inside or layer}"
