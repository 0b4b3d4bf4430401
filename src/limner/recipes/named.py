"""Where a configuration comes from: a recipe's name, a user's `.py` file, or a `config.yaml`."""

from __future__ import annotations

import inspect
from pathlib import Path

from limner.core.errors import UserError, nearest, shown
from limner.core.paths import path_of
from limner.recipes.yaml import read_config
from limner.registry.file import blamed, import_file
from limner.registry.find import find
from limner.registry.names import RECIPES
from limner.training.config import RunConfig


def recipe(name: str) -> RunConfig:
    """Return the configuration that `name` stands for: a recipe, a `.py` file with `recipe()`, or a `config.yaml`."""
    if name in RECIPES:
        return find(RECIPES, "recipe", name)()
    suffix = Path(name).suffix
    if suffix not in (".py", ".yaml", ".yml"):
        raise UserError(f"unknown recipe {shown(name)}{nearest(name, RECIPES)}")
    path = path_of(name, "recipe")
    if not path.is_file():
        raise UserError(f"recipe {name}: {'not a plain file' if path.exists() else 'no such file'}")
    return _of_file(path, f"recipe {name}") if suffix == ".py" else read_config(path)


def _of_file(path: Path, what: str) -> RunConfig:
    """Return what the function recipe() of a file makes."""
    made = import_file(path, what).get("recipe")
    config = None
    if callable(made) and not inspect.iscoroutinefunction(made):
        with blamed(path.resolve(), f"{what}: recipe()"):
            config = made()
    if not isinstance(config, RunConfig):
        raise UserError(f"{what}: the file has no function recipe() that returns a limner.RunConfig")
    return config
