"""`limner annotate` as it is typed."""

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import httpx2
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from feedback.collection import two_folders
from limner.annotate import annotate
from limner.cli import main
from limner.data.preferences import read_preferences
from limner.feedback.sources import gather


def said_by(process, key):
    """Answer one question by the links that were printed; return what is exported then."""
    said = [process.stdout.readline() for _ in range(4)]
    assert said[0].startswith("8 pairs of 16 items, 1 vote each")
    (url, token), _, (_, admin) = [re.search(r"(http://[^/]+)/(?:admin)?#(\S+)", line).groups() for line in said[1:]]
    headers = {"Authorization": f"Bearer {token}"}
    [given] = httpx2.get(f"{url}/api/next", headers=headers).json()["assignments"]
    event = {"key": key, "assignment": given["id"], "type": "vote"}
    event |= {"payload": {"choices": {"overall": "left"}}, "latency_ms": 9, "dwell_ms": 9}
    assert httpx2.post(f"{url}/api/events", headers=headers, json=[event]).json()["receipts"][0]["ok"]
    return httpx2.get(f"{url}/api/export", headers={"Authorization": f"Bearer {admin}"}).text.splitlines()


def test_the_command_prints_links_that_work_and_keeps_what_was_said(tmp_path):
    place = two_folders(tmp_path / "my_pictures", 8)
    command = [sys.executable, "-m", "limner", "annotate", str(place), "--invite", "2", "--port", "0"]
    for round in range(2):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                rows = said_by(process, f"the-key-{round}")
            finally:
                process.kill()  # what was acknowledged is on the disk
        assert sum(json.loads(row)["n"] for row in rows) <= round + 1  # a question with a known answer is not exported
    assert (place / "votes.db").exists()


@pytest.mark.parametrize(("suffix", "said"), [("mp4", True), ("png", False)])
def test_it_says_where_no_answer_is_known(tmp_path, monkeypatch, capsys, suffix, said):
    """Of videos none is spoilt, so that nobody's answers could be checked."""
    place = two_folders(tmp_path / "set", 8)
    for path in place.rglob("*.png"):
        path.rename(path.with_suffix(f".{suffix}"))
    monkeypatch.setattr("limner.annotate.server", lambda *_: SimpleNamespace(run=lambda sockets: None))
    annotate(place, port=0)
    assert ("no question has a known answer" in capsys.readouterr().out) is said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "no such folder"),
        ([".", "--questions", "a,a"], "--questions needs different names"),
        ([".", "--invite", "0"], "needs a whole number from 1"),
        ([".", "--database", "mysql://x"], "nothing to compare"),
    ],
)
def test_wrong_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main(["annotate", *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1 and not list(tmp_path.iterdir())


def test_of_two_folders_files_of_equal_name_meet_whatever_their_captions(tmp_path):
    """Four pictures of one caption in each folder are four pairs, not sixteen."""
    place = two_folders(tmp_path / "set", 4)
    for note in (path.with_suffix(".txt") for path in place.rglob("*.png")):
        note.write_text("the same")
    items, tasks = gather(place)
    names = {item.id: item.path.stem for item in items}
    assert len(tasks) == 4 and all(len({names[id] for id in task.items}) == 1 for task in tasks)


def test_of_two_folders_the_prompt_is_what_training_takes_it_to_be(tmp_path):
    """Beside the picture, written into it, or its name without the number: as limner train reads the same folders."""
    place = two_folders(tmp_path / "set", 3)
    for source, new in (("good", "chosen"), ("bad", "rejected")):
        (place / source).rename(place / new)
        for i, name in enumerate(("a_red_star_12", "told", "made")):
            (place / new / f"prompt {i}a.png").rename(place / new / f"{name}.png")
    (place / "rejected" / "told.txt").write_text("a blue circle\n")
    written = PngInfo()
    written.add_text("parameters", "a green square\nNegative prompt: none\nSteps: 20")
    Image.open(place / "chosen" / "made.png").save(place / "chosen" / "made.png", pnginfo=written)
    _, tasks = gather(place)
    asked = {task.prompt for task in tasks}
    assert asked == {"a red star", "a blue circle", "a green square"}
    assert asked == {each.prompt.text for each in read_preferences(place)[0]}
