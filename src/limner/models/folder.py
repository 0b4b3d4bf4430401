"""Where a pipeline comes from: a folder or a hub id, checked before anything is loaded, in the user's words."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from limner.core.edition import Edition
from limner.core.errors import UserError
from limner.core.paths import path_of

INDEX = "model_index.json"
CONFIG = "config.json"
"""What a model of transformers has instead."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def edition_of(source: str | Path | Edition) -> Edition:
    """Return the source with its revision and variant, "" where none is said."""
    return source if isinstance(source, Edition) else Edition(str(source))


def read_index(source: str | Path | Edition) -> Mapping[str, Any]:
    """Return the index of a pipeline folder, or of a hub id. Raises UserError if there is none.

    A path never touches the network.
    """
    edition = edition_of(source)
    if not is_local(source):
        return _of_hub(edition)
    if edition.revision:
        raise UserError(f"model.revision is of a hub id, and {edition.place} is a folder here: leave it out")
    source = path_of(edition.place, "model")
    if not source.is_dir():
        got = "it is a file" if source.exists() else "it does not exist"
        raise UserError(
            f"model: {source} is not a folder ({got}); give a folder that a diffusers "
            "pipeline's save_pretrained wrote, or a hub id org/name"
        )
    index = source / INDEX
    if not index.is_file():
        if (source / CONFIG).is_file() and (found := _architecture(source / CONFIG)):
            return found
        held = ", ".join(sorted(entry.name for entry in source.iterdir())[:5]) or "nothing"
        raise UserError(
            f"model: {source} is not a pipeline folder (it has no {INDEX}, it holds {held}); give the folder that a "
            "diffusers pipeline's save_pretrained wrote"
        )
    return _parsed(index, str(source))


def served_index(source: str | Path | Edition, adapter: str, classes: Sequence[str]) -> Mapping[str, Any]:
    """Return the index of a folder or hub id that `adapter` serves. Raises UserError if it is of another class."""
    index = read_index(source)
    require_served(index["_class_name"], str(source), adapter, classes)
    return index


def require_served(name: str, source: str, adapter: str, classes: Sequence[str]) -> None:
    """Raise UserError if `source`, a pipeline of the class `name`, is none of the `classes` that `adapter` serves."""
    if name not in classes:
        raise UserError(
            f"model: {source} is a {name}, and the {adapter} adapter serves a {' or '.join(classes)}; give one of those"
        )


def _of_hub(edition: Edition) -> Mapping[str, Any]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    name = edition.place
    try:
        try:
            return _parsed(Path(hf_hub_download(name, INDEX, revision=edition.revision or None)), name)
        except RemoteEntryNotFoundError:
            if found := _architecture(Path(hf_hub_download(name, CONFIG, revision=edition.revision or None))):
                return found
            raise
    except OSError as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"model: {name} is no folder here and cannot be had from the hub ({reason}); "
            "give a pipeline folder, or log in and check the id"
        ) from error


def _architecture(file: Path) -> Mapping[str, Any] | None:
    """Return the index of a model of transformers, the class that its configuration names; None if it names none."""
    try:
        named = json.loads(file.read_text(encoding="utf-8"))["architectures"][0]
    except (ValueError, RecursionError, LookupError, TypeError):
        return None
    return {"_class_name": named} if isinstance(named, str) else None


def _parsed(file: Path, source: str) -> Mapping[str, Any]:
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"model: {file} is not JSON ({error}); save or download the pipeline again") from error
    if not isinstance(index, dict) or not isinstance(index.get("_class_name"), str):
        raise UserError(f"model: {source} names no pipeline class in its {INDEX}; save or download the pipeline again")
    return index


def is_local(source: str | Path | Edition) -> bool:
    """Tell whether `source` means a folder: it exists, or it has not the form org/name of a hub id."""
    source = source.place if isinstance(source, Edition) else source
    return isinstance(source, Path) or os.path.exists(source) or _HUB_ID.fullmatch(source) is None


def plain_folder(source: str | Path | Edition) -> Path:
    """Return a folder whose files have no variants. Raises UserError where one is asked for."""
    edition = edition_of(source)
    if edition.revision or edition.variant or edition.quantize != "none":
        raise UserError("model.revision, variant and quantize are of pipelines of diffusers, and this model is none")
    return Path(edition.place).expanduser()


def absent(config: Mapping[str, Any], source: str | Path | Edition, parts: Sequence[str]) -> dict[str, None]:
    """Return those of the optional `parts` that a pipeline lacks, as the arguments that tell diffusers so."""
    folder = Path(edition_of(source).place).expanduser() if is_local(source) else None
    missing = (p for p in parts if config.get(p, (None, None))[1] is None or (folder and not (folder / p).is_dir()))
    return dict.fromkeys(missing)
