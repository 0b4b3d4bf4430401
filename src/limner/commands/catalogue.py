"""The commands about limner itself: what is known of its algorithms, what there is, and how a shell completes it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from limner.commands import words
from limner.commands.completion import SHELLS, shell_code
from limner.commands.parser import AddCommand
from limner.core.paths import to_folder

SHELL_SETUP = """In bash, for this session, and for all in ~/.bashrc:  eval "$(limner completion bash)"
In zsh likewise, after compinit; in fish:  limner completion fish | source"""


def add_catalogue_commands(command: AddCommand) -> None:
    """Add `bench`, `list` and `completion`."""
    bench = command("bench", _bench, "measure the algorithms against what is known exactly; done rows are kept")
    bench.add_argument("name", metavar="NAME", choices=["oracles", "scenes"], help="oracles or scenes")
    bench.add_argument(
        "--seeds", type=words.at_most(1000), help="how many (oracles 5; scenes 3 of the best, 1 of others)"
    )
    bench.add_argument(
        "--budget", type=words.count, default=65_000, metavar="N", help="evaluations a run of scenes (65000)"
    )
    bench.add_argument(
        "--kind",
        choices=["denoisers", "tokens", "one_step", "few_steps"],
        default="denoisers",
        help="the generators of scenes that are compared (denoisers)",
    )
    bench.add_argument("--entry", action="append", default=[], metavar="NAME", help="only this one; several times")
    bench.add_argument("--out", type=Path, default=Path("docs/results"), metavar="DIR", help="a folder (docs/results)")
    command("list", _list, "name the recipes, rewards, algorithms, models and prompt sets")
    completion = command("completion", _completion, "print what makes a shell complete limner's commands", SHELL_SETUP)
    completion.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))


def _bench(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    to_folder(parsed.out, "--out")
    if parsed.name == "oracles":
        from limner.bench import oracle_report

        print(oracle_report.bench(parsed.out, parsed.seeds or 5, parsed.entry))
    else:
        from limner.bench import scenes

        print(scenes.bench(parsed.out, parsed.seeds, parsed.budget, parsed.entry, parsed.kind))


def _list(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    from limner.registry.catalogue import catalogue

    for kind, entries in catalogue().items():
        print(kind)
        width = max(map(len, entries), default=0)
        for name, line in entries.items():
            print(f"  {name:<{width}}  {line}")


def _completion(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    print(shell_code(parsed.shell))
