"""`limner loop` with two people: at the page, each with a vote of their own, and by their tastes; three rounds."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from feedback.collection import vote
from limner.cli import main
from limner.core.errors import UserError
from limner.core.types import Prompt
from limner.feedback.choosing import Asking
from limner.feedback.ledger import Ledger
from limner.feedback.sources import gather
from limner.looping import LEARNED, learned_from
from limner.rewards.learned.folder import read_card
from limner.votes import of_judge, of_people, several
from run.miniature import Miniature
from run.test_rounds import loop, record, rows

TASTES = '''
import torch


def bright(media, prompts):
    """Brightness, in levels: whoever likes it."""
    return (255 * media.frames().mean((1, 2, 3, 4))).round()


def dark(media, prompts):
    return -bright(media, prompts)
'''
LIKES = {"annotator-1": 1, "annotator-2": -1}
OWN = ("--learned.design.tastes=1",)


def level(path: Path) -> float:
    return float(np.asarray(Image.open(path).convert("RGB"), np.float64).mean())


def answered(asked: Path, count: int) -> None:
    """Have two people of opposite tastes judge `count` pairs at the page's ledger; the second errs at every fifth."""
    ledger = Ledger(f"sqlite:///{asked.with_suffix('.db')}", Asking(least=2, most=2, gold=0.0, repeat=0.0))
    ledger.add(*gather(asked))
    for name, token in ledger.invite(2):
        who = ledger.who(token)
        assert who is not None and who.pseudonym == name
        for i in range(count):
            [given] = ledger.next(who, 1)
            items = ledger.board.tasks[given.task].items
            left, right = (level(ledger.board.items[items[place]].path) * LIKES[name] for place in given.order)
            errs = name == "annotator-2" and i % 5 == 4
            ledger.record(who, vote(given, "left" if (left > right) != errs else "right"))


def test_two_people_at_the_page_go_round_three_times(miniature: Miniature, tmp_path: Path, capsys: Any) -> None:
    """Each round waits until pairs have both votes, keeps a row a vote, and learns what each of them likes."""
    out = tmp_path / "loop"
    more = ("--annotator=people", "--each=2", *OWN, "--reward=learned(taste='annotator-2')")
    for number in (1, 2, 3):
        assert loop(miniature, out, "--rounds=3", *more) == 0
        asked = out / f"round-{number}" / "asked.jsonl"
        said = f"0 of 24 pairs have 2 votes; ask people with: limner annotate {asked} --invite 2 --votes 2\n"
        assert said in capsys.readouterr().out
        answered(asked, 24)
    assert loop(miniature, out, "--rounds=3", *more) == 0
    for number in (1, 2, 3):
        place, told = out / f"round-{number}", record(out, number)
        votes = rows(place / "votes.jsonl")
        assert len(votes) == 48 and len(rows(place / "so_far.jsonl")) == 48 * number
        assert {tuple(row["annotators"]) for row in votes} == {(name,) for name in LIKES}
        for row in votes:
            lead = level(place / row["media_a"]) - level(place / row["media_b"])
            liked = lead * LIKES[row["annotators"][0]] > 0
            assert row["annotators"] == ["annotator-2"] or lead == 0 or liked == (row["choice"] == "a")
        assert told["policy"]["learned_from"] == told["reward"]["sha256"]
        assert read_card(place / "reward").people == tuple(LIKES)
        config = " ".join((place / "policy" / "config.yaml").read_text().split()).replace("''", "'")
        assert f"learned(folder='{place / 'reward'}', taste='annotator-2')" in config
    assert record(out, 3)["policy"]["from"] == str(out / "round-2" / "policy" / "export")


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """Return eight pairs of grey pictures as a round asks about them, each by chance with probability 1/2."""
    place = tmp_path / "round-1"
    (place / "pictures").mkdir(parents=True)
    lines = []
    for i in range(8):
        for side, light in (("a", 20 * i), ("b", 70)):
            Image.new("RGB", (8, 8), (light + 1, light, light)).save(place / "pictures" / f"{i:06d}-{side}.png")
        media = {f"media_{side}": f"pictures/{i:06d}-{side}.png" for side in "ab"}
        lines.append(json.dumps({"pair": i, "prompt": f"thing {i}", **media, "propensity": 0.5}))
    (place / "asked.jsonl").write_text("\n".join(lines))
    return place / "asked.jsonl"


def test_votes_are_found_where_a_folder_was_moved_and_others_are_refused(asked: Path) -> None:
    """A vote is known by the picture that it is on, wherever that is now; one on another picture is none of a round."""
    answered(asked, 5)  # the second one is first asked what nobody was: of eight pairs two have both votes
    place = asked.parent.rename(asked.parent.parent / "moved")
    there = rows(place / asked.name)
    assert of_people(place / asked.name, there, 0, 2) is None and of_people(place / asked.name, there, 3, 2) is None
    votes = of_people(place / asked.name, there, 2, 2)
    assert votes is not None and Counter(row["annotators"][0] for row in votes) == dict.fromkeys(LIKES, 5)
    assert votes == of_people(place / asked.name, there, 0, 1)
    assert all(row["media_a"].startswith("pictures/") for row in votes)
    assert votes[0]["propensity"] == [0.5 / 8]  # asked about by chance, and then one of eight
    with pytest.raises(UserError, match=r"-a.png is of no pair of .*asked.jsonl"):
        of_people(place / asked.name, there[:1], 0, 1)


def test_two_judges_say_something_of_every_pair(asked: Path) -> None:
    """Of opposite tastes, each by its own expression, which is its name."""
    (asked.parent / "tastes.py").write_text(TASTES)
    names = [f"{asked.parent / 'tastes.py'}:{name}" for name in ("bright", "dark")]
    there = rows(asked)
    prompts = [Prompt(row["prompt"]) for row in there]
    bright, dark = (of_judge(*who, asked.parent, there, prompts, 3) for who in several("; ".join(names)).items())
    assert [row["choice"] for row in bright] == ["b"] * 4 + ["a"] * 4
    assert [row["choice"] for row in dark] == ["a"] * 4 + ["b"] * 4
    assert {row["annotators"][0] for row in dark} == {names[1]} and {row["annotators"][0] for row in bright} == {
        names[0]
    }


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("learned", "learned(folder='F')"),
        ("learned()", "learned(folder='F')"),
        ("pessimistic(learned, k=1)", "pessimistic(learned(folder='F'), k=1)"),
        ("learned(taste='x') + 2 * learned", "learned(folder='F', taste='x') + 2 * learned(folder='F')"),
        ("learned - learned(taste='x', folder='G')", "learned(folder='F') - learned(taste='x', folder='G')"),
        ("unlearned", None),
        ("learned(folder='G')", None),
    ],
)
def test_the_rounds_reward_stands_where_learned_has_no_folder(text: str, meant: str | None) -> None:
    assert learned_from(text, "F") == (meant or text) and bool(LEARNED.search(text)) == bool(meant)


@pytest.mark.parametrize(
    ("who", "said"),
    [
        ("synthetic; synthetic", "several are different expressions"),
        ("jpeg_size;", "several are different expressions"),
        ("people; synthetic", "people answer at a page"),
        ("jpeg_size; nobody", "unknown reward 'nobody'"),
    ],
)
def test_who_judges_is_refused_with_the_reason(who: str, said: str, tmp_path: Path, capsys: Any) -> None:
    assert main(["loop", "scenes", "--annotator", who, "--out", str(tmp_path / "loop")]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "loop").exists()
