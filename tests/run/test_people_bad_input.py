"""Wrong inputs of the commands about people and preferences: one line, exit code 2, and nothing is written."""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from feedback.collection import ledger_of, side_of, two_folders, vote
from limner.cli import main
from limner.looping import require_reward
from limner.recipes.override import override
from limner.training.reward_model import RewardTraining
from run.miniature import Miniature


def row(**other: object) -> bytes:
    said = {"prompt": "a", "media_a": "two/good/prompt 0a.png", "media_b": "two/bad/prompt 0a.png", "choice": "a"}
    return json.dumps(said | other).encode() + b"\n"


FILES = {
    "gone.jsonl": row(media_a="nowhere.png"),
    "choice.jsonl": row(choice="left"),
    "ties.jsonl": row(choice="tie"),
    "one.jsonl": row(),
    "text.jsonl": row(media_a="notes.txt"),
    "numbered.jsonl": row(prompt=3),
    "broken.jsonl": b'{"prompt": "a", \n',
    "empty.jsonl": b"",
    "columns.jsonl": b'{"a": 1}\n',
    "columns.csv": b"a,b\n1,2\n",
    "gone.csv": b"prompt,chosen,rejected\na,x.png,y.png\n",
    "head.csv": b"prompt,chosen,rejected\n",
    "short.csv": b"prompt,chosen,rejected\na,two/good/prompt 0a.png\n",
    "binary.csv": b"\xff\xfe\x00",
    "broken.parquet": b"PAR1 and no more",
    "notes.txt": b"nothing",
    "text.db": b"surely no database " * 40,
    "full/notes.txt": b"mine",
    "uneven/chosen/a.png": b"",
    "uneven/rejected/b.png": b"",
    "torn/chosen/a.png": b"no picture",
    "torn/rejected/a.png": b"no picture",
}

DPO = {
    "nowhere": "preferences nowhere: no such file or folder",
    "full": "preferences full: neither pairs.jsonl",
    "uneven": "preferences uneven/chosen, a: it is in uneven/chosen only; a pair has equal names",
    "torn": "picture torn/chosen/a.png cannot be read",
    "two/good --source.worse nowhere": "preferences: no folder nowhere",
    "two/good --source.worse two/bad --source.masks full": "preferences two/good, prompt 0a: no mask of that name",
    "ties.jsonl": "DPO learns from a better and a worse picture of one prompt, but ties.jsonl has no such pair: take",
    "text.jsonl": "preferences text.jsonl, line 1: picture notes.txt cannot be read",
    "gone.csv": "preferences gone.csv, line 2: no picture 'x.png'",
    "two --source.broken ignore": "--source.broken cannot be 'ignore' (known: refuse, skip)",
}

READ = {
    "broken.jsonl": "preferences broken.jsonl, line 1: not JSON",
    "empty.jsonl": "preferences empty.jsonl: it holds none",
    "columns.jsonl": "preferences columns.jsonl, line 1: no layout is known with the columns a; see docs",
    "gone.jsonl": "preferences gone.jsonl, line 1: no picture 'nowhere.png'",
    "choice.jsonl": "preferences choice.jsonl, line 1: choice is one of a, b, tie, tie_good, tie_bad, got 'left'",
    "numbered.jsonl": "preferences numbered.jsonl, line 1: a prompt is a text, got int",
    "text.jsonl": "preferences text.jsonl, line 1: clip notes.txt cannot be read: it holds no picture or clip",
    "one.jsonl": "1 pairs of 1 prompts are too few: none is left for",
    "columns.csv": "preferences columns.csv, line 2: no layout is known with the columns a, b",
    "head.csv": "preferences head.csv: it holds none",
    "short.csv": "preferences short.csv, line 2: no layout is known with the columns chosen, prompt",
    "binary.csv": "preferences binary.csv: not UTF-8 text (byte 0)",
    "broken.parquet": "preferences broken.parquet: not a Parquet file that can be read",
    "rows.parquet": "preferences rows.parquet, row 1: no layout is known with the columns a",
    "gone.parquet": "preferences gone.parquet, row 1: no picture 'x.png'",
    "bytes.parquet": "preferences bytes.parquet, row 1: clip of 2 bytes cannot be read",
    "none.parquet": "preferences none.parquet: it holds none",
    "said/votes.db": "preferences said/votes.db: votes as limner annotate keeps them; make rows of them by limner",
    "notes.txt": "preferences notes.txt: unknown suffix '.txt'; use .jsonl, .csv, .parquet or a folder",
}
"""What is read alike by every command that learns from preferences."""

COMMANDS = {
    **{f"reward train {data} --out out": said for data, said in READ.items()},
    "reward train two --out full": "full holds notes.txt and is no folder of a reward; choose another with --out",
    "reward train two --out notes.txt": "--out: notes.txt cannot be made: notes.txt is a file",
    "reward train two --out out --design.kind big": "--design.kind cannot be 'big'",
    "reward train two --out out --epochs 0": "RewardTraining: epochs must be at least 1",
    "reward train two more": "reward train takes one name",
    "reward promote nowhere served --on one.jsonl": "learned reward nowhere: no card.json there",
    "reward promote nowhere served --on one.jsonl --out x": "reward promote has no --out: name the folder",
    "reward promote nowhere": "reward promote needs NEW, SERVED and --on PAIRS",
    "annotate nowhere": "nowhere: no such folder; give a run, a folder with pictures, or a .jsonl",
    "annotate notes.txt": "notes.txt: no folder; give a run, a folder with pictures, or a .jsonl",
    "annotate full": "full: no two pictures of one prompt there",
    "annotate torn": "picture torn/chosen/a.png cannot be read: it holds no picture of a kind known here",
    "annotate broken.jsonl": "pairs broken.jsonl, line 1: not JSON",
    "annotate gone.jsonl": "pairs gone.jsonl, line 1: no file 'nowhere.png'",
    "annotate text.jsonl": "pairs text.jsonl, line 1: 'notes.txt' is none of .png",
    "annotate two --votes 0": "argument --votes: needs a whole number from 1",
    "annotate two --port 99999": "argument --port: needs a whole number from 0 to 65535",
    "annotate two --port 0 --database nonsense": "the votes at 'nonsense' cannot be opened",
    "annotate two --port 0 --database sqlite:///text.db": "the votes at 'sqlite:///text.db' cannot be opened",
    "annotate two --port 0 --database sqlite:////nowhere/x.db": "the votes at 'sqlite:////nowhere/x.db' cannot be",
    "annotate two --port 0 --known misplaced": "--known misplaced: every two prompts of two have a word in common",
    **{
        f"feedback {verb} {votes} --out out.{suffix}": said
        for verb, suffix in (("report", "html"), ("export", "jsonl"))
        for votes, said in {
            "nowhere.db": "votes nowhere.db: no such file",
            "full": "votes full: no such file",
            "text.db": "the votes at 'sqlite:///",
            "notes.txt": "the votes at 'sqlite:///",
            "other.db": "the votes at 'sqlite:///",
            "sqlite:///nowhere.db": "the votes at 'sqlite:///nowhere.db': no database of limner annotate is there",
            "nonsense://x": "the votes at 'nonsense://x' cannot be opened",
            "postgresql+psycopg://127.0.0.1:1/x": "the votes at 'postgresql+psycopg://127.0.0.1:1/x' cannot be opened",
        }.items()
    },
    "feedback report one.jsonl --out out.html": "votes one.jsonl, line 1: no row of an export of `limner annotate`",
    "feedback report said/votes.db --out full": "--out: full is a folder",
    "feedback export said/votes.db": "feedback export: say with --out where it is written",
    "feedback export said/votes.db --out out.txt": "--out out.txt: an export is .jsonl or .parquet",
    "feedback export said/votes.db --out out.jsonl --layout csv": "argument --layout: invalid choice: 'csv'",
    "feedback export said/votes.db --out out.jsonl --layout video_reward --each": "unrecognized arguments: --each",
    "pairs make nowhere --out out": "model: nowhere is not a folder",
    "pairs make scenes --count 0": "argument --count: needs a whole number from 1",
    "pairs make scenes --seed -1": "argument --seed: needs a whole number from 0, got '-1'",
    "pairs make scenes --steps 0": "argument --steps: needs a whole number from 1",
    "pairs make scenes --vary 1.5": "--vary is a time between 0, the sample itself, and 1",
    "pairs import one.jsonl": "argument make: invalid choice: 'import'",
    "loop nowhere": "unknown recipe 'nowhere'",
    "loop scenes --annotator nobody": "unknown reward 'nobody'",
    "loop scenes --annotator=": "--annotator : several are different expressions",
    "loop scenes --annotator 'people; synthetic'": "--annotator people; synthetic: people answer at a page",
    "loop scenes --reward sharpness": "--reward sharpness does not name the round's reward",
    "loop scenes --reward 'learned +'": "reward 'learned +': this is no expression",
    "loop scenes --reward 'learned + sharpnes'": "unknown reward 'sharpnes'; did you mean 'sharpness'?",
    "loop scenes --reward 'learned(tastes=1)'": "reward learned(tastes=1): learned has no setting 'tastes'; did you",
    "loop scenes --reward 'learned(taste=\"p1\")'": "--reward learned(taste=\"p1\"): learned(taste='p1') judges as one",
    "loop scenes --prompts nowhere.txt": "prompts nowhere.txt: no such file",
    "loop scenes --learned.epoch 3": "unknown key --learned.epoch; the nearest known key is --learned.epochs",
    "loop scenes --learned.design.kind big": "--learned.design.kind cannot be 'big'",
    "loop scenes --pool 1": "Looping: pool must be at least 2",
    "loop scenes --out full": "full exists and holds no loop",
    "loop scenes_dpo --prompts scenes:train --algorithm KTO": "KTO learns from single pictures that are liked or",
    "loop scenes_dpo --prompts scenes:train --source.unpair true": "DPO learns from which of two pictures is",
    "loop scenes_dpo": "recipe scenes_dpo has no prompts to draw pairs for: give --prompts",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sound folders, votes on them, and what is wrong in one way or another."""
    folder = tmp_path_factory.mktemp("people")
    two_folders(folder / "two", 4)
    ledger = ledger_of(folder / "said", 4)
    who = ledger.who(ledger.invite(1)[0][1])
    assert who is not None
    [given] = ledger.next(who, 1)
    ledger.record(who, vote(given, side_of(ledger, given, "good")))
    ledger.engine.dispose()
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    with closing(sqlite3.connect(folder / "other.db")) as connection:
        connection.execute("CREATE TABLE mine (x)")
    pa = pytest.importorskip("pyarrow", reason="pyarrow writes .parquet")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow writes .parquet")
    texts = {name: pa.array([], pa.string()) for name in ("prompt", "chosen", "rejected")}
    for name, columns in {
        "rows": {"a": [1]},
        "gone": {"prompt": ["a"], "chosen": ["x.png"], "rejected": ["y.png"]},
        "bytes": {"prompt": ["a"], "chosen": [b"xx"], "rejected": [b"yy"]},
        "none": texts,
    }.items():
        parquet.write_table(pa.table(columns), folder / f"{name}.parquet")
    return folder


@pytest.fixture
def refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[[str, str], None]]:
    monkeypatch.chdir(place)
    before = snapshot(place)

    def check(typed: str, said: str) -> None:
        assert main(shlex.split(typed)) == 2
        printed = capsys.readouterr()
        assert printed.err.startswith(f"limner: {said}"), printed.err
        assert printed.err.count("\n") == 1 and len(printed.err) < 1000 and not printed.out

    yield check
    assert snapshot(place) == before


def snapshot(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), os.stat(path).st_mtime_ns) for path in folder.rglob("*"))


@pytest.mark.parametrize("typed", COMMANDS)
def test_it_is_one_line_and_nothing_is_written(typed: str, refused: Callable[[str, str], None]) -> None:
    refused(typed, COMMANDS[typed])


@pytest.mark.parametrize("data", DPO)
def test_what_dpo_cannot_learn_from(data: str, miniature: Miniature, refused: Callable[[str, str], None]) -> None:
    keys = f"--model.path {miniature.model} --steps 1 --micro_batch 8 --quiet --evaluation.prompts= --out out"
    refused(f"train scenes_dpo --source.data {data} {keys}", DPO[data])


def test_a_taste_is_possible_where_it_is_learned() -> None:
    """The same words are accepted where the round's reward learns tastes, and of a reward that was there before."""
    require_reward("learned(taste='p1')", override(RewardTraining(), {"design.tastes": "1"}))
    require_reward("learned + learned(folder='elsewhere', taste='p1')", RewardTraining())
