"""What is asked about a place: by the index in it, by what stands in pictures, and how many pairs of one prompt."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from feedback.collection import two_folders
from limner.core.errors import UserError
from limner.data.preferences import read_preferences
from limner.feedback.ledger import Ledger
from limner.feedback.pairing import MOST_MET, crowd, pairs_of
from limner.feedback.sources import gather
from limner.feedback.task import Item, Task


def picture(path: Path, level: int, prompt: str = "") -> Path:
    """Write a picture that differs from those of other levels, with the prompt in it as A1111 has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = PngInfo()
    if prompt:
        written.add_text("parameters", f"{prompt}\nNegative prompt: none\nSteps: 20")
    Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(path, pnginfo=written)
    return path


def made(folder: Path, rows: list[dict], index: str = "pairs.jsonl") -> Path:
    """Write pairs as `limner pairs make` leaves them: an index, and all pictures in one folder."""
    for i, row in enumerate(rows):
        for side, name in (("a", "media_a"), ("b", "media_b")):
            row[name] = f"pictures/{i:06d}-{side}.png"
            picture(folder / row[name], 2 * i + (side == "b"))
    (folder / index).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def named(items: list[Item], pairs: Sequence[Task]) -> set[frozenset[str]]:
    names = {item.id: item.path.name for item in items}
    return {frozenset(names[id] for id in task.items) for task in pairs}


@pytest.mark.parametrize("index", ["pairs.jsonl", "preferences.jsonl", "train.jsonl", "metadata.jsonl"])
def test_a_folder_of_pairs_is_asked_as_its_index_says(tmp_path: Path, index: str) -> None:
    """Ten pairs in one folder of twenty pictures are ten questions, the ones that training finds there."""
    rows = [{"pair": i, "prompt": f"prompt {i % 4}", "choice": "a", "score_a": 1.0, "score_b": 0.0} for i in range(10)]
    place = made(tmp_path / "made", rows, index)
    items, tasks = gather(place)
    read = read_preferences(place)[0]
    assert len(tasks) == len(read) == 10 and len(items) == 20
    paths = {item.id: item.path for item in items}
    assert [(task.prompt, tuple(paths[id] for id in task.items)) for task in tasks] == [
        (each.prompt.text, tuple(path.resolve() for path in each.pictures if isinstance(path, Path))) for each in read
    ]


def test_an_index_in_another_layout_is_one_too(tmp_path: Path) -> None:
    for i in range(4):
        picture(tmp_path / "all" / f"{i}.png", i, "a star" if i == 2 else "")
    rows = [{"prompt": "a fox", "chosen": "all/0.png", "rejected": "all/1.png"}]
    rows += [{"chosen": "all/2.png", "rejected": "all/3.png"}]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    items, tasks = gather(tmp_path)
    assert named(items, tasks) == {frozenset(("0.png", "1.png")), frozenset(("2.png", "3.png"))}
    assert [task.prompt for task in tasks] == ["a fox", "a star"]
    (tmp_path / "train.jsonl").write_text('{"prompt": "a fox", "image": "all/0.png", "label": true}\n')
    with pytest.raises(UserError, match="line 1: two files are needed to compare, and the row names 1"):
        gather(tmp_path)


def test_votes_that_were_exported_beside_the_pictures_are_no_index(tmp_path: Path) -> None:
    """The server begins again after an export, and asks what it asked before."""
    place = two_folders(tmp_path / "set", 5)
    asked = gather(place)
    row = {"prompt": "prompt 0a", "media_a": "bad/prompt 0a.png", "media_b": "good/prompt 0a.png"}
    (place / "pairs.jsonl").write_text(json.dumps(row | {"votes_a": 0, "votes_b": 1, "annotators": ["annotator-1"]}))
    assert len(gather(place)[1]) == 1
    (place / "votes.db").touch()
    assert gather(place) == asked and len(asked[1]) == 5


def test_in_one_folder_those_pictures_meet_that_were_made_of_one_prompt(tmp_path: Path) -> None:
    """Ten pictures of five prompts, written into them or beside them, are five pairs."""
    for i in range(10):
        path = picture(tmp_path / "set" / f"{i}.png", i, f"prompt {i // 2}" if i < 8 else "")
        if i >= 8:
            path.with_suffix(".txt").write_text("prompt 4\n")
    items, tasks = gather(tmp_path / "set")
    assert named(items, tasks) == {frozenset((f"{i}.png", f"{i + 1}.png")) for i in range(0, 10, 2)}
    assert sorted(task.prompt for task in tasks) == [f"prompt {i}" for i in range(5)]


def some(count: int, source: str = "one", prompt: str = "") -> list[Item]:
    return [Item(Path(f"{source}-{i}.png"), prompt, source, f"{source}-{i}") for i in range(count)]


def times(items: list[Item], pairs: Sequence[Task]) -> dict[str, int]:
    """Return how many others each meets."""
    met = Counter(id for task in pairs for id in task.items)
    return {item.id: met[item.id] for item in items}


@pytest.mark.parametrize("count", [MOST_MET + 2, MOST_MET + 3, 60, 301])
def test_of_many_pictures_each_meets_equally_many(count: int) -> None:
    """None twice, the same ones again, and all are linked, so that all can be compared."""
    items = some(count)
    tasks = pairs_of(items)
    assert set(times(items, tasks).values()) == {MOST_MET} and len(tasks) == count * MOST_MET // 2
    assert len({frozenset(task.items) for task in tasks}) == len(tasks) and tasks == pairs_of(items)
    reached, links = {items[0].id}, [set(task.items) for task in tasks]
    while more := set().union(*(link for link in links if link & reached)) - reached:
        reached |= more
    assert len(reached) == count and crowd(items, tasks) == count
    orders = [next(i for i, item in enumerate(items) if item.id == task.items[0]) for task in tasks]
    assert orders != sorted(orders)  # by chance


def test_of_few_pictures_each_two_meet() -> None:
    items = [*some(MOST_MET + 1), *some(3, prompt="another")]
    tasks = pairs_of(items)
    assert len(tasks) == (MOST_MET + 1) * MOST_MET // 2 + 3 and crowd(items, tasks) == 0
    assert {frozenset(task.items) for task in tasks} == {
        frozenset((a.id, b.id)) for a, b in combinations(items, 2) if a.prompt == b.prompt
    }


@pytest.mark.parametrize(("sizes", "least", "most"), [((40, 40), 12, 18), ((30, 30, 30), 12, 18), ((4, 200), 4, 200)])
def test_of_many_pictures_of_several_sources_only_those_of_two_meet(
    sizes: tuple[int, ...], least: int, most: int
) -> None:
    """About equally often; each of many meets all of few, which is less than it may."""
    items = [item for i, size in enumerate(sizes) for item in some(size, f"source {i}")]
    tasks = pairs_of(items)
    met, source = times(items, tasks), {item.id: item.source for item in items}
    assert all(source[a] != source[b] for a, b in (task.items for task in tasks))
    assert least <= min(met.values()) and max(met.values()) <= most
    assert len({frozenset(task.items) for task in tasks}) == len(tasks) <= len(items) * MOST_MET // 2


def test_two_folders_of_many_pictures_of_one_caption_stay_pairs_of_equal_names() -> None:
    items = [
        Item(Path(f"{source}/{i}.png"), "one", source, f"{source}-{i}", {"seed": str(i)})
        for source in ("a", "b")
        for i in range(40)
    ]
    tasks = pairs_of(items)
    assert named(items, tasks) == {frozenset((f"{i}.png",)) for i in range(40)}
    assert len(tasks) == 40 and crowd(items, tasks) == 0


def test_three_hundred_pictures_are_added_by_a_few_statements(tmp_path: Path) -> None:
    from sqlalchemy import event

    items = some(300)
    tasks = pairs_of(items)
    ledger = Ledger(f"sqlite:///{tmp_path / 'votes.db'}")
    said: list[str] = []
    event.listen(ledger.engine, "before_cursor_execute", lambda *each: said.append(each[2]))
    ledger.add(items, tasks)
    assert len(said) < 20 and list(ledger.board.tasks.values()) == tasks
    ledger.add([*items, items[0], *some(1, "new")], [*tasks, tasks[0]])  # what is there stays
    assert len(ledger.board.items) == 301 and list(ledger.board.tasks.values()) == tasks
