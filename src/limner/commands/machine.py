"""The commands about the machine and the money: what is here, and what a training would take."""

from __future__ import annotations

import argparse
from typing import Any

from limner.commands.parser import AddCommand
from limner.core.errors import RunError


def add_machine_commands(command: AddCommand) -> None:
    """Add `doctor` and `models`."""
    command("doctor", _doctor, "look at this machine: what is here, what is missing, and what to do about it")
    command("models", _models, "list published models of every kind: licence, size, latent, LoRA targets, memory class")


def _models(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    from limner.registry.published import page

    print(page(), end="")


def _doctor(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    from limner.machine.doctor import examine

    found = []
    for finding in examine():
        print(finding, flush=True)
        found.append(finding)
    failing = sum(finding.level == "fails" for finding in found)
    if failing:
        raise RunError(f"{failing} of {len(found)} findings would fail a run")
