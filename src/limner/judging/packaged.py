"""Weights that are in packages: no hub, no download at the moment of use."""

from __future__ import annotations

import importlib
from typing import Any

from limner.core.errors import UserError


def package(name: str) -> Any:
    """Import a package that holds weights. Raises UserError if it is missing."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(f"this needs {name.replace('_', '-')}: pip install 'limner[emoji]'") from error
