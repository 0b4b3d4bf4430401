"""Networks without numbers, which another process reads and sends (`engine/spread.py`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers
from accelerate import init_empty_weights
from torch import nn


def hollow(
    index: Mapping[str, Sequence[str]], parts: Iterable[str], source: str | Path, stored: Mapping[str, Any]
) -> dict[str, nn.Module]:
    """Return those parts of a pipeline with parameters on the meta device; what they compute themselves is there."""
    made: dict[str, nn.Module] = {}
    for part in parts:
        kind = getattr(diffusers, index[part][1])
        with init_empty_weights():
            made[part] = kind.from_config(kind.load_config(source, subfolder=part, **stored))
    return made
