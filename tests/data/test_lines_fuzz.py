"""Prompt files and files of pairs that are none: what is read is whole, and else there is one line that names it."""

from __future__ import annotations

import csv
import io
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fuzzing import examples
from limner.core.errors import UserError
from limner.data.embedded import embedded_prompt
from limner.data.pairs import read_pairs
from limner.data.preferences import read_preferences
from limner.data.prompts import read_prompts
from limner.data.rows import LAYOUTS
from limner.feedback.sources import gather
from limner.training.kinds import kinds, tally

HUGE = 10**400
NAMES = sorted({name for keys, _ in LAYOUTS for either in keys for name in either})
NAMES += [
    "prompt",
    "text",
    "caption",
    "category",
    "rank",
    "prompt_id",
    "VQ",
    "votes_image1",
    "votes_image2",
    "has_label",
]
NAMES += ["label_1", "choice_dist", "input", "media", "path", "bytes", "type", "source", "", "\0", "é\u2028"]
PATHS = [
    "a.png",
    "a.txt",
    "",
    " ",
    ".",
    "..",
    "/",
    "nowhere.png",
    "a" * 5000 + ".png",
    "a\0.png",
    "~nobodyhere",
    "a\n.png",
]
SCALARS: st.SearchStrategy[Any] = (
    st.sampled_from(
        [*PATHS, "a", "same", "tie", "1", "-1", "nan", "inf", "yes", HUGE, -1, 0, 1, 0.5, 1e308, True, None]
    )
    | st.text(max_size=5)
    | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    """Return a row that is almost of a layout."""
    keys, _ = draw(st.sampled_from(LAYOUTS))
    row = {draw(st.sampled_from(either)): draw(VALUES) for either in keys}
    row |= draw(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3))
    return row if draw(st.booleans()) else row | {"prompt": "a star"}


PIECES = [
    "{",
    "}",
    "[",
    '"',
    ":",
    ",",
    "prompt",
    '{"prompt": "a star"}',
    '{"prompt": 3}',
    "null",
    "1e999",
    "NaN",
    "\\ud800",
]
PIECES += [
    "\n",
    "\r",
    "\r\n",
    "\u2028",
    "\x0b",
    "\x1c",
    "\x85",
    "\ufeff",
    "# ",
    "#",
    " ",
    "\t",
    "a star",
    "é",
    "\0",
    "'",
]
PIECES += [
    "file_name",
    '{"file_name": "a.png", "prompt": "x"}',
    "a,b",
    "prompt,chosen,rejected",
    '"a',
    "[" * 2000,
    "9" * 5000,
]
RAW = st.lists(st.sampled_from(PIECES), max_size=10).map("".join) | st.text(max_size=20)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    (folder / "a.txt").write_text("a star")
    return folder


def read(reader: Callable[[], Any]) -> Any:
    """Return what is read, or None where a line was said."""
    start = time.process_time()
    try:
        found = reader()
    except UserError as error:
        found, said = None, str(error).replace(tempfile.gettempdir(), "here ")
        assert 10 < len(said) < 12_000 and said.split()[0] in (
            "prompts",
            "preferences",
            "pictures",
            "picture",
            "pairs",
            "here",
        )
    assert time.process_time() - start < 2
    return found


def written(path: Path, text: str) -> Path:
    path.write_bytes(text.encode(errors="surrogatepass"))
    return path


@examples(150)
@given(RAW, st.sampled_from([".txt", ".jsonl"]))
def test_any_file_of_prompts(place: Path, text: str, suffix: str) -> None:
    found = read(lambda: read_prompts(written(place / f"prompts{suffix}", text)))
    if found is not None:
        assert all(prompt.text == prompt.text.strip() != "" for prompt in found.prompts)
        assert tally(found.prompts).total == len(found.prompts) >= len(kinds(found.prompts)) > 0
        json.dumps([dict(prompt.meta) for prompt in found.prompts]).encode()


@examples(100)
@given(st.lists(VALUES, min_size=1, max_size=3))
def test_any_category_and_meta(place: Path, values: list[Any]) -> None:
    """They are counted by what they are, and all of them."""
    lines = [json.dumps({"prompt": "a star", "category": value, "more": value}) for value in values]
    found = read(lambda: read_prompts(written(place / "any.jsonl", "\n".join(lines)))).prompts
    counted = tally(found)
    assert counted.total == len(values)
    assert sum(counted.categories.values()) == sum(value is not None for value in values)
    assert ("without a category" in str(counted)) == (None in values and counted.categories != {})


@examples(200)
@given(st.lists(rows(), min_size=1, max_size=3))
def test_any_rows_of_pairs(place: Path, table: list[dict[str, Any]]) -> None:
    """Worth lies between 0 and 1, one for each picture; what cannot be is refused, or left out and told of."""
    written(place / "pairs.jsonl", "\n".join(json.dumps(row) for row in table))
    cells = io.StringIO()
    writer = csv.DictWriter(cells, sorted({key for row in table for key in row}))
    writer.writeheader()
    writer.writerows({key: str(value)[:100] for key, value in row.items() if value is not HUGE} for row in table)
    written(place / "pairs.csv", cells.getvalue())
    for suffix in ("jsonl", "csv"):
        for broken in ("refuse", "skip"):
            found = read(partial(read_preferences, place / f"pairs.{suffix}", broken=broken))
            for each in found[0] if found is not None else ():
                assert len(each.pictures) == len(each.worth) > 0 and all(0 <= worth <= 1 for worth in each.worth)
    read(lambda: gather(place / "pairs.jsonl"))


@examples(150)
@given(RAW)
def test_any_file_of_pairs(place: Path, text: str) -> None:
    for suffix in ("jsonl", "csv"):
        read(partial(read_preferences, written(place / f"raw.{suffix}", text)))
    read(lambda: gather(written(place / "raw.jsonl", text)))
    with tempfile.TemporaryDirectory() as folder:
        written(Path(folder) / "metadata.jsonl", text)
        read(lambda: read_pairs(folder))
        read(lambda: gather(Path(folder)))


NODES = st.dictionaries(
    st.sampled_from("abcdef"),
    st.fixed_dictionaries(
        {"inputs": st.dictionaries(
            st.sampled_from(["positive", "text", "conditioning", "value", "string"]),
            st.lists(st.sampled_from([*"abcdef", 0]), max_size=2) | st.text(max_size=3),
        )}
    ) | VALUES,
    max_size=6,
)  # fmt: skip


@examples(60)
@given(NODES)
def test_any_graph_of_nodes_in_a_picture(graph: dict[str, Any]) -> None:
    assert isinstance(embedded(json.dumps(graph)), str)


def embedded(text: str) -> str:
    file, info = io.BytesIO(), PngInfo()
    info.add_text("prompt", text)
    Image.new("RGB", (4, 4)).save(file, "PNG", pnginfo=info)
    return embedded_prompt(file.getvalue())


def test_a_graph_that_leads_nowhere_ends() -> None:
    """Every node leads to every other one by each way: there are 6^40 roads, and no text."""
    ways = ("text", "text_g", "string", "value", "conditioning", "positive")
    knot = {str(i): {"inputs": {way: [str((i + j) % 40), 0] for j, way in enumerate(ways)}} for i in range(40)}
    start = time.process_time()
    assert embedded(json.dumps(knot)) == "" and embedded("[" * 100_000) == ""
    chain = {str(i): {"inputs": {"conditioning": [str(i + 1), 0]}} for i in range(3000)}
    chain |= {"3000": {"inputs": {"text": "a star"}}, "k": {"inputs": {"positive": ["0", 0]}}}
    assert embedded(json.dumps(chain)) == "a star"
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "p", "completion": "a.png", "label": HUGE}, "expected a number, got 1000"),
        ({"prompt": "p", "completion": "a.png", "label": "nan"}, "expected a number, got 'nan'"),
        ({"prompt": "p", "image": [], "rank": []}, "0 pictures, but 0 judgements"),
        ({"image1": "a.png", "image2": "a.png", "votes_image1": -1, "votes_image2": -1}, "no less than 0"),
        ({"prompt": "p", "chosen": "a" * 5000 + ".png", "rejected": "a.png"}, "cannot look at '.*aaaa"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_is_named(place: Path, row: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=rf"named.jsonl, line 1: .*{reason}"):
        read_preferences(written(place / "named.jsonl", json.dumps(row)))


def test_ranks_of_one_prompt_of_which_one_has_no_picture(place: Path) -> None:
    lines = [{"prompt_id": 1, "prompt": "p", "image": "a.png", "rank": 1}, {"prompt_id": 1, "prompt": "p", "rank": 2}]
    with pytest.raises(UserError, match="a picture is the path of a file or its bytes, got NoneType"):
        read_preferences(written(place / "ranks.jsonl", "\n".join(map(json.dumps, lines))))


def test_cells_that_hold_lines(place: Path) -> None:
    """The line that is named is the file's, and U+2028 ends none."""
    text = 'prompt,chosen,rejected\r\n"a\nstar\u2028here",a.png,a.png\r\n\r\nb,a.png,nowhere.png\r\n'
    found, faults = read_preferences(written(place / "cells.csv", text), broken="skip")
    assert [each.prompt.text for each in found] == ["a\nstar\u2028here"]
    assert len(faults) == 1 and "cells.csv, line 5: no picture" in faults[0]
    with pytest.raises(UserError, match="line [12]: not CSV that can be read: field larger"):
        read_preferences(written(place / "wide.csv", f"prompt,chosen,rejected\n{'a' * 200_000},a.png,a.png\n"))
