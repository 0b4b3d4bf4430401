"""The commands about the machine and the money: what is here, and what a training would take."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from limner.commands import words
from limner.commands.parser import AddCommand
from limner.commands.training import KEYS, add_card, add_recipe, card_of, config_of
from limner.core.errors import RunError
from limner.core.paths import to_file


def add_machine_commands(command: AddCommand) -> None:
    """Add `doctor`, `plan` and `models`."""
    command("doctor", _doctor, "look at this machine: what is here, what is missing, and what to do about it")
    plan = command("plan", _plan, "tell what a training would take, from configurations alone, and write nothing", KEYS)
    add_recipe(plan)
    add_card(plan, "memory of the accelerator")
    plan.add_argument("--processes", type=words.count, default=1, metavar="N", help="accelerators that share it (1)")
    plan.add_argument("--machines", type=words.count, default=1, metavar="N", help="on which these are (1)")
    plan.add_argument(
        "--measure", action="store_true", help="do a dry run as well, as `check` does: seconds of this machine"
    )
    plan.add_argument(
        "--tflops", type=words.positive, metavar="RATE",
        help="TFLOP/s that a device sustains (40%% of a card's published dense peak, named with it)",
    )  # fmt: skip
    plan.add_argument("--price", type=words.positive, metavar="PER_HOUR", help="of a device: what the run then costs")
    plan.add_argument("--json", action="store_true", help="print it as JSON")
    models = command(
        "models", _models, "list published models of every kind: licence, size, latent, LoRA targets, memory class"
    )
    models.add_argument("--out", type=Path, metavar="FILE", help="write the page there, once it is whole")


def _plan(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    config = config_of(parsed, values)
    from limner.machine.plan import as_json, plan, text

    found = plan(
        config, card_of(parsed), parsed.processes, parsed.measure, parsed.machines, parsed.tflops, parsed.price
    )
    print(json.dumps(as_json(found), indent=1) if parsed.json else text(found))


def _models(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    from limner.registry.published import page
    from limner.report.file import write_text

    found = page()
    if parsed.out is None:
        print(found, end="")
    else:
        write_text(to_file(parsed.out, "--out"), found)


def _doctor(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    from limner.machine.doctor import examine

    found = []
    for finding in examine():
        print(finding, flush=True)
        found.append(finding)
    failing = sum(finding.level == "fails" for finding in found)
    if failing:
        raise RunError(f"{failing} of {len(found)} findings would fail a run")
