"""Which device a run uses."""

from __future__ import annotations

import torch

from limner.core.errors import UserError


def resolve(device: str) -> torch.device:
    """Return the device named `device` ("cpu", "mps", "cuda", "cuda:1"); "auto": the first of cuda, mps, cpu.

    Raises UserError if there is no such device on this machine.
    """
    if device == "auto":
        return torch.device(_available()[0])
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"unknown device {device!r}; use auto, cpu, cuda, cuda:INDEX or mps") from error
    if found.type not in _available():
        raise UserError(f"device {device!r} is not available here; available: auto, {', '.join(_available())}")
    count = torch.cuda.device_count() if found.type == "cuda" else 1
    if found.index is not None and not found.index < count:
        raise UserError(f"device {device!r} is not available here; {found.type} indices end at {count - 1}")
    return found


def _available() -> list[str]:
    """Return the kinds of device of this machine, the best first."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [kind for kind, is_there in there.items() if is_there]
