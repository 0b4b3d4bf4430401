"""Prompt files: one prompt a line (`.txt`), or one JSON object a line (`.jsonl`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from limner.core.errors import UserError
from limner.core.paths import path_of
from limner.core.types import Prompt
from limner.data.lines import parse_object, pop_text, read_lines


@dataclass(frozen=True)
class PromptFile:
    """The prompts of a file, in order (equal ones are kept), and the number of lines left out as comments."""

    prompts: list[Prompt]
    comments: int = 0


def read_prompts(path: str | Path) -> PromptFile:
    """Return what a file holds; blank lines are skipped.

    `.txt`: one prompt a line. A line whose first word is `#` alone is a comment: `# shapes` is one, `#ff0000 circle` is
    a prompt. `.jsonl`: one object a line, its text under "prompt" (or, without that key, "text"); "inputs" are the
    pictures that the generator is given, as {"image": "first.png"}, seen from the file's folder; all other keys become
    `meta`, which rewards can read. Of these "reference" is a file, seen from there too, where it ends as pictures and
    clips do ("right.webp"). Raises UserError, one line each, for a file that is missing, unreadable, not UTF-8,
    malformed (with the line's number), or without prompts, and for a picture or clip that is not there.
    """
    path = path_of(path, "prompts")
    if path.suffix not in (".txt", ".jsonl"):
        raise UserError(
            f"prompts {path}: unknown suffix {path.suffix!r}; use .txt (a prompt a line) or .jsonl, or a world's "
            "split, as in scenes:train"
        )
    lines = read_lines(path, f"prompts {path}")
    if path.suffix == ".txt":
        prompts = [Prompt(line) for _, line in lines if line.split()[0] != "#"]
    else:
        prompts = [_parse(line, f"prompts {path}, line {number}", path.parent) for number, line in lines]
    if not prompts:
        raise UserError(f"prompts {path}: the file holds no prompt")
    return PromptFile(prompts, len(lines) - len(prompts))


def _parse(line: str, where: str, folder: Path) -> Prompt:
    """Return the prompt of one JSON line."""
    entry = parse_object(line, where)
    text, inputs = pop_text(entry, ("prompt", "text"), where), entry.pop("inputs", {})
    if not isinstance(inputs, dict) or not all(isinstance(each, str) and each for each in inputs.values()):
        raise UserError(f'{where}: inputs must name a file each, as in {{"image": "first.png"}}, got {inputs!r:.80}')
    prompt = Prompt(text, entry, {name: _file(each, name, where, folder) for name, each in inputs.items()})
    if prompt.reference:
        entry["reference"] = _file(entry["reference"], "reference", where, folder)
    return prompt


def _file(named: str, name: str, where: str, folder: Path) -> str:
    """Return the path of a file that a line names, seen from its folder."""
    place = folder / path_of(named, f"{where}: {name}")
    if not place.is_file():
        raise UserError(f"{where}: {name} {named!r} is no file, seen from {folder}")
    return str(place)
