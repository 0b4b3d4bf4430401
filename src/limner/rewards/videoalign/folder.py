"""The folder that VideoAlign publishes: what a score depends on, its newest checkpoint, and the text that asks."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limner.core.errors import UserError
from limner.core.paths import path_of, text_of

NAME = "videoalign"
DIMENSIONS = ("VQ", "MQ", "TA")
TOKENS = tuple(f"<|{dimension}_reward|>" for dimension in DIMENSIONS)
CONFIG, TEMPLATES = "model_config.json", "prompt_template.py"
TEMPLATE, SLOT = "DETAILED_PROMPT_WITH_SPECIAL_TOKEN", "{text_prompt}"
"""What the authors' file calls the text with the three tokens, and where the prompt goes in it."""
SERVED: Mapping[tuple[str, str], tuple[Any, ...]] = {
    ("data_config", "prompt_template_type"): ("detailed_special",),
    ("data_config", "eval_dim"): (list(DIMENSIONS),),
    ("data_config", "sample_type"): ("uniform", None),
    ("data_config", "num_frames"): (None,),
    ("model_config", "use_special_tokens"): (True,),
    ("model_config", "output_dim"): (1, 3),
}
"""The values of a configuration that are served; None: it does not say."""


@dataclass(frozen=True)
class Trained:
    """What `model_config.json` says that a score depends on."""

    fps: float
    """Frames of each of a clip's seconds that are seen."""
    max_pixels: int
    """Of a frame, at most."""
    base: str
    """Folder or hub id of the Qwen2-VL that it was trained from."""
    alpha: float | None
    """What low-rank updates are multiplied by, before they are divided by their rank; None: there are none."""
    by_root: bool
    """Whether they are divided by the root of the rank."""
    statistics: tuple[tuple[float, float], ...] | None
    """Mean and standard deviation of the raw number of each dimension; None: it does not say."""


def read_trained(folder: Path) -> Trained:
    """Return what the configuration says. Raises UserError for one that is missing, damaged, or not served here."""
    where = f"{NAME}: {folder / CONFIG}"
    if not (folder / CONFIG).is_file():
        raise UserError(f"{NAME}: no {CONFIG} in {folder}; give the folder that VideoAlign publishes, VideoReward")
    try:
        config = json.loads(text_of(folder / CONFIG, where))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON that can be read: {error}") from error
    for (section, key), served in SERVED.items():
        if (got := _section(config, section, where).get(key)) not in served:
            wanted = " or ".join(json.dumps(value) for value in served if value is not None) or "null"
            raise UserError(f"{where}: {section}.{key} is {json.dumps(got)}, and only {wanted} is served here")
    data, lora = _section(config, "data_config", where), _section(config, "peft_lora_config", where)
    return Trained(
        fps=_number(data, "fps", where),
        max_pixels=int(_number(data, "max_frame_pixels", where)),
        base=str(_section(config, "model_config", where).get("model_name_or_path") or ""),
        alpha=_number(lora, "lora_alpha", where) if lora.get("lora_enable") else None,
        by_root=lora.get("use_rslora") is True,
        statistics=_statistics(config, where),
    )


def checkpoint_of(folder: Path) -> Path:
    """Return the newest folder `checkpoint-STEP`. Raises UserError if there is none."""
    steps = {path.name.removeprefix("checkpoint-"): path for path in folder.glob("checkpoint-*") if path.is_dir()}
    numbered = {int(step): path for step, path in steps.items() if step.isdecimal()}
    if not numbered:
        raise UserError(f"{NAME}: no folder checkpoint-STEP in {folder}; fetch the whole folder, weights too")
    return numbered[max(numbered)]


def read_template(folder: Path, template: str) -> str:
    """Return the text that asks, with `{text_prompt}` and the three tokens in it.

    It is that of the file `template`, or of the authors' prompt_template.py, which is read and never run; without
    `template` that of this name in the folder. Raises UserError for none, and for one without them, once each in order.
    """
    path = path_of(template, NAME) if template else folder / TEMPLATES
    if not template and not path.is_file():
        raise UserError(
            f"{NAME}: no text to ask with: give template, the file {TEMPLATES} of the authors' code (github.com/"
            f"KlingAIResearch/VideoAlign), or put it into {folder}; a score holds for the text it was trained with"
        )
    text = text_of(path, f"{NAME}: {path}")
    text = _literal(text, path) if path.suffix == ".py" else text
    places = [text.find(token) for token in TOKENS]
    if any(text.count(part) != 1 for part in (*TOKENS, SLOT)) or places != sorted(places):
        raise UserError(f"{NAME}: {path}: the text needs {', '.join(TOKENS)} in this order and {SLOT}, once each")
    return text


def _literal(source: str, path: Path) -> str:
    """Return the text that a Python file calls TEMPLATE."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError) as error:
        raise UserError(f"{NAME}: {path}: not Python that can be read: {error}") from error
    for node in body:
        if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == TEMPLATE for to in node.targets):
            if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
                return node.value.value
    raise UserError(f"{NAME}: {path}: no text {TEMPLATE} = ...; give the authors' file, or a text file")


def _section(config: Any, name: str, where: str) -> Mapping[str, Any]:
    found = config.get(name) if isinstance(config, dict) else None
    if not isinstance(found, dict):
        raise UserError(f"{where}: no object {name}; give the file that VideoAlign's training writes")
    return found


def _number(section: Mapping[str, Any], key: str, where: str) -> float:
    """Return a finite number above 0."""
    got = section.get(key)
    if isinstance(got, bool) or not isinstance(got, int | float) or not 0 < got < math.inf:
        raise UserError(f"{where}: {key} must be a number above 0, got {json.dumps(got)}")
    return got


def _statistics(config: Mapping[str, Any], where: str) -> tuple[tuple[float, float], ...] | None:
    if config.get("inference_config") is None:
        return None
    section = _section(config, "inference_config", where)
    for key in (f"{dimension}_mean" for dimension in DIMENSIONS):
        if isinstance(section.get(key), bool) or not isinstance(section.get(key), int | float):
            raise UserError(f"{where}: inference_config.{key} must be a number, got {json.dumps(section.get(key))}")
    return tuple((section[f"{name}_mean"], _number(section, f"{name}_std", where)) for name in DIMENSIONS)
