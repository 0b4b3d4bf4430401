"""What could stand where a shell's cursor is: commands, recipes, keys, and the names of what there is.

A shell that was told so (`limner completion bash`) runs limner at each Tab, and argcomplete reads the line. No torch is
imported: names are in `registry/names.py`, and keys are read from the source of the settings.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Mapping, Sequence

from limner.registry.declared import completions
from limner.registry.names import RECIPES, REWARDS, WORLDS

SHELLS = ("bash", "zsh", "fish", "powershell", "tcsh")

NAMES: Mapping[tuple[str, str], Sequence[str]] = {
    ("train", "recipe"): tuple(RECIPES),
    ("check", "recipe"): tuple(RECIPES),
    ("plan", "recipe"): tuple(RECIPES),
    ("launch", "recipe"): tuple(RECIPES),
    ("loop", "recipe"): tuple(RECIPES),
    ("keys", "recipe"): tuple(RECIPES),
    ("keys", "word"): (),
    ("distill", "model"): tuple(RECIPES),
    ("sample", "prompt"): (),
    ("pretrain", "world"): tuple(WORLDS),
    ("pairs", "model"): tuple(RECIPES),
    ("pairs", "other"): tuple(RECIPES),
    ("reward", "name"): tuple(REWARDS),
    ("reward", "world"): tuple(WORLDS),
    ("serve-reward", "reward"): tuple(REWARDS),
}
"""The names that an argument of a command takes; where files serve as well, the shell's own are offered too."""
FILES = {"recipe": ("py", "yaml", "yml"), "prompts": ("txt", "jsonl"), "name": ("py",), "reward": ("py",)}
"""Endings of the files that an argument takes."""


def shell_code(shell: str) -> str:
    """Return what a shell runs once, to complete from then on."""
    import argcomplete

    return argcomplete.shellcode(["limner"], shell=shell)


def answer(
    parser: argparse.ArgumentParser, commands: Mapping[str, argparse.ArgumentParser], keyed: Iterable[str]
) -> None:
    """Tell a shell that asks what could stand here, and exit; do nothing where none asks.

    `keyed` are the commands that take keys of a configuration.
    """
    if "_ARGCOMPLETE" not in os.environ:
        return
    import argcomplete

    for name, command in commands.items():
        for action in command._actions:  # argparse has no public list of them, and argcomplete reads this one
            names = _presets() if action.dest == "preset" else NAMES.get((name, action.dest))
            endings = FILES.get(action.dest)
            if names is not None or endings is not None:
                vars(action)["completer"] = _offer(
                    names or (), argcomplete.FilesCompleter(endings) if endings else None
                )
    for name in keyed:
        known = {option for action in commands[name]._actions for option in action.option_strings}
        for key, values in _keys().items():
            if f"--{key}" not in known:
                vars(commands[name].add_argument(f"--{key}"))["completer"] = _offer(values, None)
    argcomplete.autocomplete(parser)


def _offer(names: Sequence[str], files: Callable[..., Iterable[str]] | None) -> Callable[..., list[str]]:
    """Return what argcomplete asks for the words that may stand at a place."""

    def offered(prefix: str, action: object, parser: object, parsed_args: object) -> list[str]:
        return [*names, *(files(prefix) if files is not None else ())]

    return offered


def _keys() -> dict[str, list[str]]:
    """Return every key of a configuration, each once, with all values that it may have."""
    found: dict[str, list[str]] = {}
    for key, values in completions():
        found[key] = list(dict.fromkeys([*found.get(key, []), *values]))
    return found


def _presets() -> Sequence[str]:
    from limner.recipes.presets import PRESETS

    return tuple(PRESETS)
