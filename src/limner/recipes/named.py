"""Where a configuration comes from: a recipe's name, a user's `.py` file, or a `config.yaml`."""

from __future__ import annotations

from pathlib import Path

from limner.core.errors import UserError, nearest
from limner.recipes.yaml import from_yaml
from limner.registry.file import import_file
from limner.registry.find import find
from limner.registry.names import RECIPES
from limner.training.config import RunConfig


def recipe(name: str) -> RunConfig:
    """Return the configuration that `name` stands for: a recipe, a `.py` file with `recipe()`, or a `config.yaml`."""
    path = Path(name).expanduser()
    if name in RECIPES:
        return find(RECIPES, "recipe", name)()
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return from_yaml(path.read_text(encoding="utf-8"), str(path))
    if path.suffix == ".py" and path.is_file():
        made = import_file(path, f"recipe {name}").get("recipe")
        config = made() if callable(made) else None
        if not isinstance(config, RunConfig):
            raise UserError(f"recipe {name}: the file has no function recipe() that returns a limner.RunConfig")
        return config
    if path.suffix in (".py", ".yaml", ".yml"):
        raise UserError(f"recipe {name}: no such file")
    raise UserError(f"unknown recipe {name!r}{nearest(name, RECIPES)}")
