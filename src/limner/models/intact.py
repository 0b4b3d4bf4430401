"""Whether the files of a pipeline folder are there and whole: looked at before a library reads them, in seconds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import nn

from limner.core.errors import UserError

POINTER = b"version https://git-lfs"
"""How a file begins that git-lfs has not fetched yet."""
VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "tokenizer.model")
WORDLESS = ("ByT5Tokenizer",)
"""Tokenizers that have no vocabulary: they read bytes."""
WEIGHTS = (".safetensors", ".bin")
COUNTS = frozenset(
    "layers_per_block num_decoder_layers num_hidden_layers num_layers num_single_layers num_train_timesteps".split()
)
"""Settings that say how much is made before a weight is read, and none has more than `MOST`."""
MOST = 10_000
WEIGHTLESS = {
    "scheduler": ("scheduler_config.json",),
    "image_processor": ("preprocessor_config.json",),
    "processor": ("preprocessor_config.json", "processor_config.json"),
}
"""Parts that have settings and no weights, and the files that hold these, one of which is there."""
LAYER = re.compile(r"\.(\d+)(?=\.)")
"""The number of a layer in the name of a weight."""
HALF = "fp16"
"""The variant of weight files that are stored in float16: `model.fp16.safetensors`."""


def require_intact(folder: Path, index: Mapping[str, Any], parts: Sequence[str]) -> None:
    """Raise UserError, which names the file, unless each of `parts` is there, and its files are whole."""
    for part in parts:
        named = index.get(part)
        if not isinstance(named, list) or len(named) != 2 or not all(isinstance(each, str) for each in named):
            raise UserError(f"model: {folder} has no {part} in its model_index.json: download the pipeline again")
        if not (folder / part).is_dir() or not any((folder / part).iterdir()):
            raise UserError(f"model: {folder} has no {part}: download that folder of the pipeline")
        if part.startswith("tokenizer"):
            if named[1] not in WORDLESS:
                _require(folder / part, "vocabulary", VOCABULARIES)
            _require(folder / part, "settings", ("tokenizer_config.json",))
        else:
            _require(folder / part, "configuration", WEIGHTLESS.get(part, ("config.json",)))
            if part not in WEIGHTLESS and not any(_weights(folder / part)):
                raise UserError(f"model: {folder / part} has no weights: download that folder of the pipeline")
        require_whole_files(folder / part)


def require_whole_files(folder: Path) -> None:
    """Raise UserError, which names the file, unless the files of a folder are whole."""
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        _require_whole(file)


def in_variant(folder: Path, parts: Sequence[str], variant: str) -> frozenset[str]:
    """Return the parts of which weights are there in the variant. Raises UserError if there are none."""
    found = [part for part in parts if any(f".{variant}." in file.name for file in _weights(folder / part))]
    if not found:
        raise UserError(f"model: {folder} has no weights in the variant {variant}: leave model.variant out")
    return frozenset(found)


def only_half(folder: Path, parts: Sequence[str]) -> frozenset[str]:
    """Return the parts whose weights are there in the variant `fp16` alone."""
    held = {part: [f".{HALF}." in file.name for file in _weights(folder / part)] for part in parts}
    return frozenset(part for part, files in held.items() if files and all(files))


def require_all_layers(folder: Path, part: str, module: nn.Module) -> None:
    """Raise UserError where a part's files hold more layers than it has: its configuration leaves some of them out."""
    made = {name: len(each) for name, each in module.named_modules() if isinstance(each, nn.ModuleList)}
    for file in _weights(folder / part):
        if file.suffix != ".safetensors":
            continue
        with safe_open(file, "pt") as opened:
            stored = _layers(opened.keys())
        for stack, number in stored.items():
            if stack in made and number > made[stack]:
                raise UserError(
                    f"model: {file} holds {number} of {stack}, and the configuration beside it says {made[stack]}: the "
                    "two do not belong together; download that folder of the pipeline again"
                )


def _layers(names: Iterable[str]) -> Mapping[str, int]:
    """Return how many layers each stack has, by what stands before their numbers in the names of weights."""
    found: dict[str, int] = {}
    for name in names:
        for place in LAYER.finditer(name):
            stack = name[: place.start()]
            found[stack] = max(found.get(stack, 0), int(place[1]) + 1)
    return found


def _weights(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.suffix in WEIGHTS)


def _require(folder: Path, what: str, names: Sequence[str]) -> None:
    if not any((folder / name).is_file() for name in names):
        raise UserError(f"model: {folder} has no {what} ({' or '.join(names)}): download that folder of the pipeline")


def _require_numbers(file: Path, opened: Any) -> None:
    """Refuse weights that are codes, unless the configuration says how they are read: as numbers they are others."""
    for name in opened.keys() if not _coded(file.parent) else ():
        kind = opened.get_slice(name).get_dtype() if name.endswith(".weight") else ""
        if kind.startswith(("I", "U", "BOOL")):
            raise UserError(
                f"model: {file} has {name} in {kind}, with nothing beside it that says how it is read; download the "
                "weights in float32, float16 or bfloat16"
            )


def _coded(folder: Path) -> bool:
    settings = folder / "config.json"
    return settings.is_file() and '"quantization_config"' in settings.read_text(encoding="utf-8", errors="replace")


def _require_whole(file: Path) -> None:
    with file.open("rb") as opened:
        begin = opened.read(len(POINTER))
    if begin == POINTER:
        raise UserError(
            f"model: {file} is a git-lfs pointer, and not the file itself: run `git lfs pull` in its folder"
        )
    if file.suffix == ".safetensors":
        try:
            with safe_open(file, "pt") as opened:
                _require_numbers(file, opened)
        except SafetensorError as error:
            raise UserError(f"model: {file} is cut short or damaged ({error}): download it again") from error
    if file.name.endswith("config.json"):
        try:
            held = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise UserError(f"model: {file} is not JSON ({error}): download it again") from error
        if not isinstance(held, dict) or not held:
            raise UserError(f"model: {file} holds no settings: download it again")
        longest = held.get("model_max_length", 2)
        if not isinstance(longest, (int, float)) or not longest >= 2:  # begin and end are two
            raise UserError(f"model: {file} has model_max_length {longest!r}, which holds no text: download it again")
        for key in COUNTS & held.keys():
            if isinstance(held[key], int) and held[key] > MOST:
                raise UserError(f"model: {file} has {key} {held[key]}, and at most {MOST} can be: download it again")
