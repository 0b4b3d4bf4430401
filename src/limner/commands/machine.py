"""The commands about the machine and the money: what is here, and what a training would take."""

from __future__ import annotations

import argparse
from typing import Any

from limner.commands.parser import AddCommand
from limner.core.errors import RunError


def add_machine_commands(command: AddCommand) -> None:
    """Add `doctor`."""
    command("doctor", _doctor, "look at this machine: what is here, what is missing, and what to do about it")


def _doctor(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    from limner.machine.doctor import examine

    found = []
    for finding in examine():
        print(finding, flush=True)
        found.append(finding)
    failing = sum(finding.level == "fails" for finding in found)
    if failing:
        raise RunError(f"{failing} of {len(found)} findings would fail a run")
