"""Preferences in every layout, two folders, embedded prompts, and what is wrong with a file."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from limner.core.errors import UserError
from limner.data.embedded import embedded_prompt
from limner.data.preferences import read_preferences
from limner.data.rows import Segments, Unusable, preference_of


def png(colour=(9, 9, 9), **texts):
    info, file = PngInfo(), io.BytesIO()
    for key, value in texts.items():
        info.add_text(key, value)
    Image.fromarray(np.full((4, 4, 3), colour, np.uint8)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


V2 = {
    "schema_version": 2,
    "input": {"prompt": "p", "media": []},
    "supervision": {
        "type": "preference",
        "chosen": {"media": [{"type": "image", "path": "a"}]},
        "rejected": {"media": [{"type": "image", "path": "b"}]},
    },
}
ROWS = {
    "pick-a-pic": ({"caption": "p", "jpg_0": b"a", "jpg_1": b"b", "label_0": 0, "label_1": 1}, (b"a", b"b"), (0, 1)),
    "pick-a-pic tie": ({"caption": "p", "jpg_0": b"a", "jpg_1": b"b", "label_0": 0.5}, (b"a", b"b"), (0.5, 0.5)),
    "hpd2": ({"prompt": "p", "file_path": ["a", "b"], "human_preference": [0, 1]}, ("a", "b"), (0, 1)),
    "hpd2 test": ({"prompt": "p", "image_path": ["a", "b", "c"], "rank": [2, 0, 1]}, ("a", "b", "c"), (0, 1, 0.5)),
    "hpd3": ({"prompt": "p", "path1": "a", "path2": "b", "confidence": 0.9}, ("a", "b"), (1, 0)),
    "hpd3 votes": ({"prompt": "p", "path1": "a", "path2": "b", "choice_dist": [3, 1]}, ("a", "b"), (0.75, 0.25)),
    "image reward": ({"prompt": "p", "prompt_id": "7", "image": ["a", "b"], "rank": [1, 3]}, ("a", "b"), (1, 0)),
    "video reward": ({"prompt": "p", "path_A": "a", "path_B": "b", "VQ": "A", "MQ": "same"}, ("a", "b"), (0.75, 0.25)),
    "rapidata": (
        {"prompt": "p", "image1": "a", "image2": "b", "votes_image1": 1, "votes_image2": 4}, ("a", "b"), (0.2, 0.8),
    ),
    "trl": ({"prompt": "p", "chosen": "a", "rejected": {"path": "b", "bytes": None}}, ("a", "b"), (1, 0)),
    "kto": ({"prompt": "p", "completion": "a", "label": False}, ("a",), (0,)),
    "kto csv": ({"prompt": "p", "image": "a", "label": "True"}, ("a",), (1,)),
    "both bad": ({"prompt": "p", "media_a": "a", "media_b": "b", "choice": "tie_bad"}, ("a", "b"), (0, 0)),
    "both good": ({"prompt": "p", "media_a": "a", "media_b": "b", "choice": "tie_good"}, ("a", "b"), (1, 1)),
    "flow-factory": (V2, ("a", "b"), (1, 0)),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_each_layout_says_what_it_says(name):
    row, pictures, worth = ROWS[name]
    said = preference_of(row)
    assert said.prompt == "p" and said.pictures == pictures and said.worth == pytest.approx(worth)


def test_segments_stand_beside_any_layout_of_pairs():
    for name, labels in [
        ("trl", [1, 0, -1]),
        ("hpd3", "[1, 0, -1]"),
        ("video reward", "1 0 -1"),
        ("both bad", "1,0,-1"),
    ]:
        row, pictures, worth = ROWS[name]
        said = preference_of(row | {"segments": labels, "segment_frames": "16"})
        assert said.segments == Segments((1, 0, -1), 16) and said.worth == pytest.approx(worth), name
    pair = {"prompt": "p", "media_a": "a", "media_b": "b"}
    for labels, worth in [([-1, -1, 1], (0, 1)), ([0.25, 0], (1, 0)), ([1, -1], (0.5, 0.5))]:
        said = preference_of(pair | {"segments": labels})
        assert said.segments == Segments(tuple(labels)) and said.worth == worth
    for more, reason in [
        ({"segments": []}, "numbers from -1 to 1"),
        ({"segments": [1, 2]}, "numbers from -1 to 1"),
        ({"segments": ["left"]}, "a number"),
        ({"segments": [1], "segment_frames": 1.5}, "a whole number"),
    ]:
        with pytest.raises(Unusable, match=reason):
            preference_of(pair | more)
    with pytest.raises(Unusable, match="which of two clips is better, and the row has 1"):
        preference_of(ROWS["kto"][0] | {"segments": [1]})


def test_rows_that_say_nothing():
    assert preference_of({"caption": "p", "jpg_0": b"a", "jpg_1": b"b", "label_0": 0.5, "has_label": False}) is None
    for row, reason in [
        ({"prompt": "p"}, "no layout"),
        ({"prompt": "p", "chosen": 3, "rejected": "b"}, "path of a file"),
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, "is a text"),
        ({"prompt": "p", "media_a": "a", "media_b": "b", "choice": "left"}, "tie_good"),
        ({"prompt": "p", "media_a": "a", "media_b": "b", "dims": []}, "no choice, and no votes"),
        ({"prompt": "p", "completion": "a", "label": "perhaps"}, "a number"),
        ({"prompt": "p", "completion": "a", "label": 7}, "between 0 and 1"),
        ({"prompt": "p", "file_path": ["a"], "human_preference": [0, 1]}, "1 pictures, but 2"),
        (V2 | {"supervision": {"type": "demonstration"}}, "demonstrations"),
    ]:
        with pytest.raises(Unusable, match=reason):
            preference_of(row)


def written(tmp_path, rows):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png())
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return file


GOOD = {"prompt": "two red stars", "chosen": "a.png", "rejected": "b.png"}


def test_a_file_and_the_folder_it_lies_in(tmp_path):
    file = written(tmp_path, [GOOD])
    for data in (file, tmp_path):
        (one,), faults = read_preferences(data)
        assert one.prompt.text == "two red stars" and one.pictures == (tmp_path / "a.png", tmp_path / "b.png")
        assert one.tells_apart and one.where.endswith("line 1") and not faults


def test_a_fault_has_its_line_and_stops_or_is_left_out(tmp_path):
    file = written(tmp_path, [GOOD, GOOD | {"rejected": "c.png"}, {"prompt": "x"}, GOOD])
    with pytest.raises(UserError, match=r"line 2: no picture .*c\.png"):
        read_preferences(file)
    good, faults = read_preferences(file, broken="skip")
    assert len(good) == 2 and ["line 2" in faults[0], "line 3" in faults[1]] == [True, True]
    with pytest.raises(UserError, match="it holds none; the first fault is"):
        read_preferences(written(tmp_path, [{"prompt": "x"}]), broken="skip")


def test_csv_and_ranked_rows_of_one_prompt(tmp_path):
    written(tmp_path, [])
    file = tmp_path / "rewards.csv"
    with file.open("w", newline="") as out:
        table = csv.writer(out)
        table.writerow(["prompt_id", "prompt", "image", "rank"])
        table.writerows([["1", "p", "a.png", "2"], ["1", "p", "b.png", "1"], ["2", "q", "a.png", "1"]])
    (first, second), _ = read_preferences(file)
    assert first.worth == (0, 1) and first.prompt.text == "p" and second.worth == (0.5,)


def test_parquet_holds_the_pictures_themselves(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    row = {"caption": ["p"], "jpg_0": [png()], "jpg_1": [png((1, 2, 3))], "label_0": [1.0], "label_1": [0.0]}
    parquet.write_table(pyarrow.table(row), tmp_path / "pick.parquet")
    (one,), _ = read_preferences(tmp_path / "pick.parquet")
    assert one.pictures[0] == png() and one.worth == (1, 0)
    (tmp_path / "bad.parquet").write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a Parquet file"):
        read_preferences(tmp_path / "bad.parquet")


def test_two_folders(tmp_path):
    for folder in ("chosen", "rejected", "mask"):
        (tmp_path / folder).mkdir()
        for name in ("a_red_star_1", "told", "drawn"):
            texts = {"parameters": "a blue star\nNegative prompt: ugly\nSteps: 20"} if name == "drawn" else {}
            (tmp_path / folder / f"{name}.png").write_bytes(png(**texts))
    (tmp_path / "chosen" / "told.txt").write_text("a green\nstar", encoding="utf-8")
    found, _ = read_preferences(tmp_path)
    assert [each.prompt.text for each in found] == ["a red star", "a blue star", "a green star"]
    assert found[0].mask == tmp_path / "mask" / "a_red_star_1.png" and found[0].worth == (1, 0)
    found, _ = read_preferences(tmp_path / "chosen", worse=tmp_path / "rejected")
    assert found[0].pictures[1] == tmp_path / "rejected" / "a_red_star_1.png" and found[0].mask is None
    (tmp_path / "rejected" / "told.png").unlink()
    with pytest.raises(UserError, match=r"told: it is in .*chosen only"):
        read_preferences(tmp_path)
    assert len(read_preferences(tmp_path, broken="skip")[0]) == 2
    with pytest.raises(UserError, match="neither pairs.jsonl"):
        read_preferences(tmp_path / "mask")


def test_comfy_graphs_are_followed():
    graph = {
        "3": {"class_type": "KSampler", "inputs": {"positive": ["6", 0], "negative": ["7", 0]}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["9", 0], "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "ugly"}},
        "9": {"class_type": "Text", "inputs": {"string": "a red star"}},
    }
    assert embedded_prompt(png(prompt=json.dumps(graph))) == "a red star"
    graph["9"]["inputs"]["string"] = ["6", 0]  # a ring has no end
    assert embedded_prompt(png(prompt=json.dumps(graph))) == ""
    assert embedded_prompt(png(prompt="no graph")) == "" and embedded_prompt(png()) == ""
    with pytest.raises(UserError, match="cannot be read"):
        embedded_prompt(b"nothing")
