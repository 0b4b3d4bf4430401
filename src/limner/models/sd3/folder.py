"""Where a pipeline comes from: a folder or a hub id, checked before anything is loaded, in the user's words."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limner.core.errors import UserError

PIPELINE_CLASS = "StableDiffusion3Pipeline"
OPTIONAL = ("text_encoder_3", "tokenizer_3")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_local(source: str | Path) -> bool:
    """Tell whether `source` means a folder: it exists, or it has not the form org/name of a hub id."""
    return isinstance(source, Path) or os.path.exists(source) or _HUB_ID.fullmatch(source) is None


def absent_parts(source: Path) -> list[str]:
    """Return the optional parts (T5 and its tokenizer) that an SD3 pipeline folder lacks.

    Raises UserError if `source` is no folder, or not one of an SD3 pipeline.
    """
    if not source.is_dir():
        got = "it is a file" if source.exists() else "it does not exist"
        raise UserError(
            f"model: {source} is not a folder ({got}); give a diffusers {PIPELINE_CLASS} folder or a hub id org/name"
        )
    index = source / "model_index.json"
    if not index.is_file():
        held = ", ".join(sorted(entry.name for entry in source.iterdir())[:5]) or "nothing"
        raise UserError(
            f"model: {source} is not a pipeline folder (it has no model_index.json, it holds {held}); "
            f"give the folder that {PIPELINE_CLASS}.save_pretrained wrote"
        )
    try:
        config = json.loads(index.read_text())
    except ValueError as error:
        raise UserError(f"model: {index} is not JSON ({error}); save or download the pipeline again") from error
    parts = check_config(config, str(source))
    return [name for name in OPTIONAL if parts[name] is None or not (source / name).is_dir()]


def check_config(config: object, source: str) -> Mapping[str, Any]:
    """Return the class of every part by name (None where there is none), if this is an SD3 pipeline's index."""
    if not isinstance(config, dict) or config.get("_class_name") != PIPELINE_CLASS:
        got = config.get("_class_name") if isinstance(config, dict) else type(config).__name__
        raise UserError(f"model: {source} is a {got}, and the sd3 adapter serves a {PIPELINE_CLASS}; give one of those")
    return {name: config.get(name, (None, None))[1] for name in OPTIONAL}
