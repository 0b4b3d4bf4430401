"""VideoReward's weights under our names, with their low-rank updates in them. Nothing of a file is run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from limner.core.errors import UserError
from limner.rewards.videoalign.folder import NAME, Trained
from limner.rewards.vision.weights import loaded, read_weights

NAMES = (
    (r"^base_model\.model\.", ""),
    (r"\.base_layer\.", "."),
    (r"\.lora_([AB])\.default\.", r".lora_\1."),
    (r"^rm_head\.", "head."),
    (r"^(?:model\.)?visual\.", "qwen.visual."),
    (r"^model\.(?:language_model\.)?(?=layers\.|embed_tokens\.|norm\.)", "qwen.language_model."),
)
"""The authors' name, as a pattern, and ours: transformers' Qwen2VLModel, of any version, under `qwen`."""
WHOLE, LOW_RANK, OTHERS = "model.pth", "adapter_model.safetensors", "non_lora_state_dict.pth"
WORDS = "qwen.language_model.embed_tokens.weight"


def read_state(place: Path, trained: Trained, base: str) -> dict[str, Tensor]:
    """Return all weights of a checkpoint: its own whole ones, or low-rank updates, and others, of the base's."""
    if (place / WHOLE).is_file():
        state = renamed(read_weights(NAME, str(place / WHOLE)))
    elif (place / LOW_RANK).is_file() and (place / OTHERS).is_file():
        state = {f"qwen.{name}": value for name, value in loaded(NAME, "Qwen2VLModel", base).state_dict().items()}
        for file in (OTHERS, LOW_RANK):
            state |= renamed(read_weights(NAME, str(place / file)))
    else:
        raise UserError(f"{NAME}: {place} has neither {WHOLE} nor both {LOW_RANK} and {OTHERS}; fetch it whole")
    for name in (WORDS, "head.weight"):
        if name not in state:
            raise UserError(f"{NAME}: the weights in {place} do not fit: they have no {name}")
    return merged(state, trained, place)


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the published weights under our names, without the head that writes words."""
    found = {}
    for name, value in state.items():
        for pattern, replacement in NAMES:
            name = re.sub(pattern, replacement, name)
        if name != "lm_head.weight":
            found[name] = value
    return found


def merged(state: Mapping[str, Tensor], trained: Trained, place: Path) -> dict[str, Tensor]:
    """Return the weights with their low-rank updates in them: W + alpha / r B A, r the rank, or its root.

    Source: LoRA, arXiv:2106.09685, section 4.1; rsLoRA, arXiv:2312.03732. Raises UserError for a part that is alone.
    """
    found = {name: value for name, value in state.items() if ".lora_" not in name}
    for name in state.keys() - found.keys():
        layer, _, part = name.rpartition(".lora_")
        other = f"{layer}.lora_{'B' if part == 'A.weight' else 'A'}.weight"
        if part not in ("A.weight", "B.weight") or other not in state or f"{layer}.weight" not in found:
            raise UserError(f"{NAME}: the weights in {place} do not fit: {name} has no counterpart")
        if trained.alpha is None:
            raise UserError(f"{NAME}: the weights in {place} do not fit: {name}, and lora_enable is false")
        if part == "A.weight":
            down, up = state[name].float(), state[other].float()
            scale = trained.alpha / (len(down) ** 0.5 if trained.by_root else len(down))
            found[f"{layer}.weight"] = found[f"{layer}.weight"].float() + scale * up @ down
    return found
