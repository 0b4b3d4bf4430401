"""Files that are whole or absent, and what is said of one that is neither."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from limner.core.errors import UserError


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` in one step: a reader, or a crash, sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(part, path)


def read_object(path: Path) -> dict[str, Any] | None:
    """Return the JSON object that a file holds; None if there is no file. Raises UserError if it holds no object."""
    if not os.path.lexists(path):
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}): delete it, and go on without it") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object: delete it, and go on without it")
    return content


def no_room(error: OSError | SafetensorError) -> bool:
    """Tell whether a disk is full; safetensors says so in its message only."""
    full = (errno.ENOSPC, errno.EDQUOT)
    return error.errno in full if isinstance(error, OSError) else any(f"os error {code}" in str(error) for code in full)
