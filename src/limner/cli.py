"""The command line. Nothing here imports torch before a command needs it: `limner --help` is instant.

Bad input, a reward that raises too, is one line on stderr and exit code 2 (LIMNER_DEBUG=1 adds a traceback); a run
that had to stop is one line and 1, or 3 where it did so because another of its processes had; Ctrl-C is 130.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from limner.commands import words
from limner.commands.catalogue import add_catalogue_commands
from limner.commands.completion import answer
from limner.commands.launch import add_launch_command
from limner.commands.loop import add_loop_command
from limner.commands.machine import add_machine_commands
from limner.commands.parser import Parser, take_keys
from limner.commands.preferences import add_preference_commands
from limner.commands.rewards import add_reward_commands
from limner.commands.runs import add_run_commands
from limner.commands.training import OWN_FLAGS, add_training_commands
from limner.core.errors import PEER_LOST, BrokenReward, LostPeer, RunError, UserError, nearest

DEBUG = "LIMNER_DEBUG"
"""Environment variable: where it is set, a complaint about a user's input is shown with where it came from."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command and return its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(arguments)
    except (UserError, BrokenReward) as error:
        if os.environ.get(DEBUG):
            traceback.print_exception(error)
        return _fail(2, str(error))
    except LostPeer as error:
        return _fail(PEER_LOST, str(error))
    except RunError as error:
        return _fail(1, str(error))
    except KeyboardInterrupt:
        return _fail(130, f"interrupted{_continuation(arguments)}")
    except BrokenPipeError:  # whoever read our output has left, as in `limner list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (OSError, MemoryError, RuntimeError) as error:
        from limner.core.shortage import asked, is_short  # here, because it imports torch

        if is_short(error):
            return _fail(1, f"out of memory ({asked(error)}): lower what is done at once, as with --micro_batch")
        if not isinstance(error, OSError) or error.filename is None:
            raise
        # a disk that is full, a folder that became read-only; of anything else it is a bug
        return _fail(1, f"{error.filename}: {error.strerror}")


def _fail(code: int, message: str) -> int:
    print(f"limner: {words.line(message)}", file=sys.stderr)
    return code


def _continuation(arguments: Sequence[str]) -> str:
    """Return how an interrupted command goes on."""
    command = shlex.join(["limner", *arguments])
    match arguments[:1]:
        case ["train"]:
            return f"; continue with: {command}{'' if '--resume' in arguments else ' --resume'}"
        case ["pretrain" | "distill" | "pairs" | "loop"]:
            return f"; continue with: {command}"
    return ""


def _run(arguments: list[str]) -> int:
    parser, commands = _parsers()
    answer(parser, commands, ("train", "check", "plan", "launch", "keys"))
    if not arguments:
        parser.print_help()
        return 0
    if arguments == ["--version"]:
        import importlib.metadata

        print(f"limner {importlib.metadata.version('limner')}")
        return 0
    name = arguments[0]
    if not name.startswith("-") and name not in commands:
        raise UserError(f"unknown command {name!r}{nearest(name, commands)}")
    values: dict[str, Any] = {}
    typed = argparse.Namespace(typed=list(arguments), main=main)
    if name in OWN_FLAGS:
        arguments, values = take_keys(arguments, OWN_FLAGS[name])
    parsed = parser.parse_args(arguments, typed)
    action: Callable[[argparse.Namespace, dict[str, Any]], None] = parsed.action
    action(parsed, values)
    return 0


def _parsers() -> tuple[Parser, Mapping[str, Parser]]:
    parser = Parser(prog="limner", description="Reinforcement learning for visual generative models.")
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser, required=True)
    made: dict[str, Parser] = {}

    def command(name: str, action: Callable[..., None], help: str, epilog: str | None = None) -> Parser:
        made[name] = commands.add_parser(
            name,
            help=help,
            description=help[0].upper() + help[1:] + ".",
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made[name].set_defaults(action=action)
        return made[name]

    add_training_commands(command)
    add_loop_command(command)
    add_machine_commands(command)
    add_launch_command(command)
    add_run_commands(command)
    add_reward_commands(command)
    add_preference_commands(command)
    add_catalogue_commands(command)
    return parser, made
