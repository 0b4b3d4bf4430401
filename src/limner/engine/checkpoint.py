"""Checkpoints that are whole or not there: `checkpoints/00000120-9f86d081884c7d65.pt` is step 120 and its SHA-256.

A checkpoint is written under a temporary name, forced to the disk, and renamed; its name says what its bytes must hash
to. So a process killed at any moment leaves the checkpoints before, and a damaged file is known for one.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import BinaryIO, cast

import torch

from limner.core.errors import RunError, UserError
from limner.core.types import Tree

_NAME = re.compile(r"(\d{8,})-([0-9a-f]{16})\.pt")


def save(folder: Path, step: int, state: Tree, keep: int = 2) -> Path:
    """Write `state` (nested dicts and lists of tensors, numbers and strings) and keep the last `keep` checkpoints.

    Files of this step or later ones are of a run that was given up, or damaged, and go. Raises RunError if the disk is
    full or refuses; the earlier checkpoints then stand.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = _write(folder, step, state)
    except OSError as error:
        raise RunError(f"checkpoint of step {step} not written to {folder}: {error}; earlier ones stand") from error
    earlier = [other for other in _saved(folder) if _step(other) < step]
    for other in {*folder.glob("*.tmp"), *_saved(folder)} - {path, *earlier[: keep - 1]}:
        other.unlink()
    return path


def latest(folder: Path) -> Path | None:
    """Return the last whole checkpoint, or None; temporary and damaged files are passed over."""
    return next((path for path in _saved(folder) if _whole(path)), None)


def damaged(folder: Path) -> list[Path]:
    """Return the checkpoints that `latest` passes over."""
    last = latest(folder)
    return [path for path in _saved(folder) if last is None or _step(path) > _step(last)]


def load(path: Path) -> Tree:
    """Return what was saved, on the CPU. Raises UserError if the file is damaged or no checkpoint."""
    if not _NAME.fullmatch(path.name) or not _whole(path):
        raise UserError(f"{path} is not a whole checkpoint; resume from another one in {path.parent}")
    return torch.load(path, map_location="cpu", weights_only=True)


class _Hashed:
    """A file that hashes what is written to it.

    It keeps the error of a failed write, which torch.save replaces by one about its own bookkeeping.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.hash = file, hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        """Called by torch.save when it is done."""
        self.file.flush()


def _write(folder: Path, step: int, state: Tree) -> Path:
    """Write, force to the disk, rename, and force the folder's entries to the disk: a rename is not safe before."""
    temporary = folder / f"{step:08d}.tmp"
    try:
        with open(temporary, "wb") as file:
            digest = _serialise(state, file)
            file.flush()
            os.fsync(file.fileno())
        path = folder / f"{step:08d}-{digest[:16]}.pt"
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return path


def _serialise(state: Tree, file: BinaryIO) -> str:
    """Write `state` and return the SHA-256 of what was written."""
    hashed = _Hashed(file)
    try:
        torch.save(state, cast(BinaryIO, hashed))
    except RuntimeError as error:
        raise hashed.error or error from error
    return hashed.hash.hexdigest()


def _saved(folder: Path) -> list[Path]:
    """Return the finished checkpoints, the last one first."""
    return sorted((path for path in folder.glob("*.pt") if _NAME.fullmatch(path.name)), key=_step, reverse=True)


def _step(path: Path) -> int:
    return int(path.name.partition("-")[0])


def _whole(path: Path) -> bool:
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16] == path.stem.partition("-")[2]
