"""`manifest.json`: what a result was made of, so that somebody else can make it again."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from limner.core.errors import UserError
from limner.report.file import read_object, write_text

PACKAGES = ("limner", "torch", "diffusers", "transformers", "peft", "numpy", "safetensors")
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


def manifest(
    *,
    config: str,
    seeds: Mapping[str, Any],
    weights: Mapping[str, str],
    inputs: Mapping[str, str],
    device: str,
    command: Sequence[str],
) -> dict[str, Any]:
    """Return versions, commit, hardware, seeds and hashes.

    `config` is the text of config.yaml, `weights` what `hash_weights` returned, `inputs` hashes of what else the run is
    made of, `command` is sys.argv: its program is kept by name only, the rest as the user typed it.
    """
    return {
        "command": [Path(command[0]).name, *command[1:]] if command else [],
        "versions": {"python": platform.python_version(), **_versions()},
        "commit": _commit(),
        "hardware": _hardware(torch.device(device)),
        "seeds": dict(seeds),
        "sha256": {
            "config": hashlib.sha256(config.encode()).hexdigest(),
            "weights": dict(weights),
            "inputs": dict(inputs),
        },
    }


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Write FOLDER/manifest.json."""
    write_text(folder / "manifest.json", json.dumps(content, indent=2) + "\n")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return what FOLDER/manifest.json says; None if there is none. Raises UserError for one of another form."""
    path = folder / "manifest.json"
    found = read_object(path)
    if found is None:
        return None
    digests, changes = found.get("sha256", {}), found.get("changes", [])
    kinds = [digests.get(kind, {}) for kind in ("weights", "inputs")] if isinstance(digests, dict) else [None]
    if not all(isinstance(kind, dict) for kind in kinds) or not isinstance(changes, list):
        raise UserError(f"{path} is not what a run writes: delete it, and go on without it")
    return found


def hash_weights(path: Path) -> dict[str, str]:
    """Return the SHA-256 of every weights file in a folder by its path in it, or of one file by its name."""
    if path.is_file():
        return {path.name: _sha256(path)}
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.suffix in WEIGHTS)
    return {file.relative_to(path).as_posix(): _sha256(file) for file in files}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _versions() -> dict[str, str]:
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def _commit() -> str | None:
    """Return the commit of limner's own checkout, `+changes` if files differ from it; None if it is none."""
    here = Path(__file__).resolve()
    tracked = _git("ls-files", "--error-unmatch", here.name, cwd=here.parent)
    commit = _git("rev-parse", "HEAD", cwd=here.parent)
    if tracked is None or commit is None:
        return None
    changed = _git("status", "--porcelain", "--untracked-files=no", cwd=here.parent)
    return f"{commit}+changes" if changed else commit


def _git(*arguments: str, cwd: Path) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _hardware(device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu() if device.type == "cpu" else None
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return {
        "cpu": _cpu(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": {"machine": os.cpu_count(), "usable": usable, "torch_threads": torch.get_num_threads()},
        "device": {"kind": device.type, "name": name},
        "system": f"{platform.system()} {platform.machine()}",
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
