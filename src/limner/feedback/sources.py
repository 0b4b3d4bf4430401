"""Where the items come from: a folder, a file of pairs."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from limner.core.errors import UserError, shown
from limner.core.paths import path_of
from limner.core.picture import require_picture
from limner.data.embedded import embedded_prompt
from limner.data.lines import parse_object, pop_text, read_lines
from limner.data.preferences import INDEX, caption, told_beside
from limner.data.rows import Unusable, preference_of
from limner.feedback.pairing import tasks_of
from limner.feedback.task import MEDIA, MOST_RANKED, PICTURES, Item, Kind, Task, file_hash

VOTES = "votes.db"
"""Where votes on a folder are kept, in it."""
KEPT = ("category", "sensitive", "fps")
"""What a row of pairs may say of both items."""


def gather(place: Path, kind: Kind = "pair", most: int = MOST_RANKED) -> tuple[list[Item], list[Task]]:
    """Return what there is to compare at a place, and the questions.

    A .jsonl: a pair a line (`prompt`, `media_a`, `media_b`, or another layout of `limner.data.rows`), paths from where
    the file is; its `category`, and `sensitive`: true, are of both. A folder with such a file in it, under a name that
    `read_preferences` looks for: that. A folder with metadata.jsonl: its files (`file_name`) by prompt (`prompt` or
    `text`), who made each (`source`, if said), and whether it is hidden until somebody wants to see it (`sensitive`).
    A folder with two folders or more: files of equal name meet, for their `caption`. A folder of pictures: those meet
    whose prompt is the same, as a .txt beside them or what made them says; of those without any, each two.

    Raises UserError if nothing can be compared there, a file is missing, or a line is not of this form.
    """
    if place.suffix == ".jsonl":
        return _of_pairs(place, kind, most)
    if not place.is_dir():
        missing = "no folder" if place.exists() else "no such folder"
        raise UserError(f"{place}: {missing}; give a run, a folder with pictures, or a .jsonl with pairs")
    index = _index(place)
    if index is not None and not _lists_pictures(index):
        return _of_pairs(index, kind, most)
    items = _listed(index) if index is not None else _found(place)
    tasks = tasks_of(items, kind, most)
    if not tasks:
        missing = "no picture" if kind == "rate" else "no two pictures of one prompt"
        raise UserError(f"{place}: {missing} there, so there is nothing to compare")
    return items, tasks


def _index(folder: Path) -> Path | None:
    """Return the file that says what is in a folder.

    What was exported of the votes that are kept beside it is none: it says what was answered, and not what is asked.
    """
    found = [folder / name for name in INDEX if (folder / name).is_file()]
    if (folder / VOTES).exists():
        found = [path for path in found if "annotators" not in _first(path)]
    return next(iter(found), None)


def _lists_pictures(index: Path) -> bool:
    first = _first(index)
    return "file_name" in first or (index.name == "metadata.jsonl" and "media_a" not in first)


def _first(index: Path) -> dict[str, Any]:
    return next((parse_object(line, f"{index}, line {number}") for number, line in read_lines(index, f"{index}")), {})


def _listed(index: Path) -> list[Item]:
    folder, items = index.parent, []
    for number, line in read_lines(index, f"pictures {index}"):
        where = f"pictures {index}, line {number}"
        entry = parse_object(line, where)
        path = folder / pop_text(entry, ("file_name",), where)
        prompt = pop_text(entry, ("prompt", "text"), where)
        source = entry.pop("source", folder.name)
        items.append(item_at(path, prompt, str(source), entry, where))
    return items


def _found(folder: Path) -> list[Item]:
    """Return the media of a folder, or of the folders in it, where equal names share a prompt, and are drawn alike."""
    open_ = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    rooms = sorted(path for path in open_ if _media(path)) or [folder]
    named: dict[str, list[Path]] = defaultdict(list)
    for room in rooms:
        for path in _media(room):
            named[path.stem].append(path)
    items = []
    for stem, paths in sorted(named.items()):
        if len(rooms) > 1:
            text = caption(paths, stem)
            items += [item_at(path, text, path.parent.name, {"seed": stem}) for path in paths]
        else:
            items += [
                item_at(path, told_beside([path]) or embedded_prompt(path), path.parent.name, {}) for path in paths
            ]
    return items


def _media(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in MEDIA)


def _of_pairs(file: Path, kind: Kind, most: int) -> tuple[list[Item], list[Task]]:
    items, tasks = _pairs(file)
    return items, tasks if kind == "pair" else tasks_of(items, kind, most)


def _pairs(file: Path) -> tuple[list[Item], list[Task]]:
    items: dict[str, Item] = {}
    tasks = []
    for number, line in read_lines(file, f"pairs {file}"):
        where = f"pairs {file}, line {number}"
        entry = parse_object(line, where)
        prompt, names = _pair(entry, file.parent, where)
        two = []
        for side, name in zip(("a", "b"), names, strict=True):
            source, facts = str(entry.get(f"source_{side}", side)), _facts(entry, side, where)
            two.append(item_at(file.parent / name, prompt, source, facts, where))
        items |= {item.id: item for item in two}
        tasks.append(Task("pair", prompt, (two[0].id, two[1].id)))
    if not tasks:
        raise UserError(f"pairs {file}: the file holds no pair")
    return list(items.values()), tasks


def _facts(entry: dict[str, Any], side: str, where: str) -> dict[str, Any]:
    """Return what a row says of one of its items: of both alike, or, as an export does, of each by itself."""
    own = entry.get(f"facts_{side}") or {}
    if not isinstance(own, dict):
        raise UserError(f"{where}: facts_{side} is an object, got {shown(own)}")
    return own | {name: entry[name] for name in KEPT if name in entry}


def _pair(entry: dict[str, Any], folder: Path, where: str) -> tuple[str, list[str]]:
    """Return the prompt and the two files that a row names: in our own layout, with or without an answer, or another.

    Raises UserError for one without a prompt, or without two files.
    """
    if "media_a" in entry or "media_b" in entry:
        names = [pop_text(entry, (f"media_{side}",), where) for side in ("a", "b")]
        return pop_text(entry, ("prompt",), where), names
    try:
        said = preference_of(entry)
    except Unusable as error:
        raise UserError(f"{where}: {error}") from None
    pictures = [each for each in said.pictures if isinstance(each, str)] if said is not None else []
    if said is None or len(pictures) != 2 or len(said.pictures) != 2:
        raise UserError(f"{where}: two files are needed to compare, and the row names {len(pictures)}")
    path = path_of(folder / pictures[0], where)
    prompt = said.prompt or (embedded_prompt(path) if path.is_file() else "")
    if not prompt:
        raise UserError(f"{where}: it has no prompt, and none is embedded in the picture")
    return prompt, pictures


def item_at(path: Path, prompt: str, source: str, facts: dict[str, object], where: str = "") -> Item:
    """Return a file as an item. Raises UserError if it is missing, or nothing that browsers show."""
    if path.suffix.lower() not in MEDIA:
        raise UserError(f"{where or path}: {path.name!r} is none of {', '.join(MEDIA)}, which browsers show")
    if not path_of(path, where or str(path)).is_file():
        raise UserError(f"{where or path}: no file {shown(str(path))}")
    if path.suffix.lower() in PICTURES:
        try:
            require_picture(path)
        except UserError as error:
            raise UserError(f"{where}: {error}" if where else str(error)) from error
    return Item(path.resolve(), prompt, source, file_hash(path), facts)
