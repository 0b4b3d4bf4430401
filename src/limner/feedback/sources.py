"""Where the items come from: a folder, a file of pairs."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from limner.core.errors import UserError, shown
from limner.core.paths import path_of
from limner.core.picture import require_picture
from limner.data.lines import parse_object, pop_text, read_lines
from limner.data.preferences import caption, told_beside
from limner.feedback.task import MEDIA, MOST_RANKED, PICTURES, Item, Kind, Task, file_hash, tasks_of


def gather(place: Path, kind: Kind = "pair", most: int = MOST_RANKED) -> tuple[list[Item], list[Task]]:
    """Return what there is to compare at a place, and the questions.

    A folder with metadata.jsonl: its files (`file_name`) by prompt (`prompt` or `text`), who made each (`source`, if
    said), and whether it is hidden until somebody wants to see it (`sensitive`: true). A folder with two folders or
    more: files of equal name meet, for their `caption`. A folder of pictures: each two. A .jsonl:
    a pair a line (`prompt`, `media_a`, `media_b`), paths from where the file is.

    Raises UserError if nothing can be compared there, a file is missing, or a line is not of this form.
    """
    if place.suffix == ".jsonl":
        items, tasks = _pairs(place)
        return items, tasks if kind == "pair" else tasks_of(items, kind, most)
    if not place.is_dir():
        missing = "no folder" if place.exists() else "no such folder"
        raise UserError(f"{place}: {missing}; give a run, a folder with pictures, or a .jsonl with pairs")
    items = _listed(place) if (place / "metadata.jsonl").exists() else _found(place)
    tasks = tasks_of(items, kind, most)
    if not tasks:
        missing = "no picture" if kind == "rate" else "no two pictures of one prompt"
        raise UserError(f"{place}: {missing} there, so there is nothing to compare")
    return items, tasks


def _listed(folder: Path) -> list[Item]:
    index, items = folder / "metadata.jsonl", []
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
        text = caption(paths, stem) if len(rooms) > 1 else told_beside(paths)
        alike = {"seed": stem} if len(rooms) > 1 else {}
        items += [item_at(path, text, path.parent.name, dict(alike)) for path in paths]
    return items


def _media(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in MEDIA)


def _pairs(file: Path) -> tuple[list[Item], list[Task]]:
    items: dict[str, Item] = {}
    tasks = []
    for number, line in read_lines(file, f"pairs {file}"):
        where = f"pairs {file}, line {number}"
        entry = parse_object(line, where)
        prompt = pop_text(entry, ("prompt",), where)
        two = []
        for side in ("a", "b"):
            path = file.parent / pop_text(entry, (f"media_{side}",), where)
            two.append(item_at(path, prompt, str(entry.get(f"source_{side}", side)), {}, where))
        items |= {item.id: item for item in two}
        tasks.append(Task("pair", prompt, (two[0].id, two[1].id)))
    if not tasks:
        raise UserError(f"pairs {file}: the file holds no pair")
    return list(items.values()), tasks


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
