"""Where a pipeline comes from: a folder or a hub id, checked before anything is loaded, in the user's words."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limner.core.errors import UserError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Index:
    """What an adapter serves: its name, and the pipeline classes whose folders it loads."""

    adapter: str
    classes: tuple[str, ...]

    def read(self, source: str | Path, of_hub: Callable[[str], Any]) -> Mapping[str, Any]:
        """Return the index of a pipeline folder, or of a hub id by `of_hub`.

        Raises UserError if there is none, or one of another class; a path never touches the network.
        """
        if is_local(source):
            return self._of_folder(Path(source).expanduser())
        try:
            config = of_hub(str(source))
        except OSError as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"model: {source} is no folder here and cannot be had from the hub ({reason}); "
                "give a pipeline folder, or log in and check the id"
            ) from error
        return self._checked(config, str(source))

    def _of_folder(self, source: Path) -> Mapping[str, Any]:
        wanted = " or ".join(self.classes)
        if not source.is_dir():
            got = "it is a file" if source.exists() else "it does not exist"
            raise UserError(
                f"model: {source} is not a folder ({got}); give a diffusers {wanted} folder or a hub id org/name"
            )
        index = source / "model_index.json"
        if not index.is_file():
            held = ", ".join(sorted(entry.name for entry in source.iterdir())[:5]) or "nothing"
            raise UserError(
                f"model: {source} is not a pipeline folder (it has no model_index.json, it holds {held}); "
                f"give the folder that {wanted}.save_pretrained wrote"
            )
        try:
            config = json.loads(index.read_text())
        except ValueError as error:
            raise UserError(f"model: {index} is not JSON ({error}); save or download the pipeline again") from error
        return self._checked(config, str(source))

    def _checked(self, config: object, source: str) -> Mapping[str, Any]:
        if not isinstance(config, dict) or config.get("_class_name") not in self.classes:
            got = config.get("_class_name") if isinstance(config, dict) else type(config).__name__
            wanted = " or ".join(self.classes)
            raise UserError(
                f"model: {source} is a {got}, and the {self.adapter} adapter serves a {wanted}; give one of those"
            )
        return config


def is_local(source: str | Path) -> bool:
    """Tell whether `source` means a folder: it exists, or it has not the form org/name of a hub id."""
    return isinstance(source, Path) or os.path.exists(source) or _HUB_ID.fullmatch(source) is None


def absent(config: Mapping[str, Any], source: str | Path, parts: Sequence[str]) -> dict[str, None]:
    """Return those of the optional `parts` that a pipeline lacks, as the arguments that tell diffusers so."""
    folder = Path(source).expanduser() if is_local(source) else None
    missing = (p for p in parts if config.get(p, (None, None))[1] is None or (folder and not (folder / p).is_dir()))
    return dict.fromkeys(missing)
