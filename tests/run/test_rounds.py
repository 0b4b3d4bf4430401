"""`limner loop`, as typed: votes, a reward or none, a policy, and again from that; and after a kill at any stage."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from feedback.collection import vote
from limner import rounds
from limner.cli import main
from limner.core.media import Images
from limner.core.types import Prompt
from limner.feedback.ledger import Ledger
from limner.feedback.sources import gather
from limner.feedback.task import held_out
from limner.looping import Loop
from limner.report.data import Interval
from limner.report.text import bounds
from limner.rewards.learned.reward import Learned
from run.miniature import Miniature

PROMPTS = [f"{count} {colour} {shape}" for count in ("one", "two") for colour in ("red", "green", "blue")
           for shape in ("star", "circle")]  # fmt: skip
LEARNING = ("--learned.design.edge=16", "--learned.design.width=16", "--learned.design.members=2", "--learned.epochs=2",
            "--learned.heldout=0.3", "--learned.calibration=0.3")  # fmt: skip
TINY = (
    "--steps=1",
    "--prompts_per_step=2",
    "--group_size=2",
    "--micro_batch=8",
    "--sampler.steps=2",
    "--quiet",
    "--evaluation.prompts=",
    "--model.train.rank=4",
)
FEW_TIMES = ("--algorithm.num_times=1", "--algorithm.min_time=0")  # fmt: skip


def loop(
    miniature: Miniature, out: Path, *more: str, recipe: str = "scenes", learning: Sequence[str] = LEARNING
) -> int:
    prompts = out.parent / "prompts.txt"
    prompts.write_text("\n".join(PROMPTS))
    who = [] if "--annotator" in more else ["--annotator", miniature.reward("redness")]
    words = ["loop", recipe, "--model.path", str(miniature.model), "--prompts", str(prompts), *who, *TINY, *learning]
    words += (*FEW_TIMES, "--doubtful=train") if recipe == "scenes" else ()
    return main([*words, "--pairs", "24", "--out", str(out), *more])


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def record(out: Path, number: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / f"round-{number}" / "round.json").read_text())
    return found


def contents(folder: Path) -> dict[str, bytes]:
    names = ("*.jsonl", "*.png", "reward.safetensors", "*.safetensors")
    return {str(path.relative_to(folder)): path.read_bytes() for name in names for path in folder.rglob(name)
            if path.name != "metrics.jsonl"}  # fmt: skip


@pytest.fixture(scope="module")
def done(miniature: Miniature, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("loop") / "loop"
    assert loop(miniature, out, "--rounds", "2") == 0
    return out


def test_each_round_goes_on_from_the_one_before(done: Path) -> None:
    """The votes are what the judge says of the files, all are learned from, and the new policy draws the next ones."""
    for number in (1, 2):
        place, told = done / f"round-{number}", record(done, number)
        assert list(told) == ["asked", "votes", "reward", "policy"]
        votes = rows(place / "votes.jsonl")
        assert len(votes) == 24
        for row in votes:
            red = [np.asarray(Image.open(place / row[f"media_{side}"]), np.float64)[..., 0] / 255 for side in "ab"]
            a, b = (1000 * (x[:, : x.shape[1] // 2].mean() - x[:, x.shape[1] // 2 :].mean()) for x in red)
            assert abs(a - b) < 2 or row["choice"] == ("a" if a > b else "b")
        assert len(rows(place / "so_far.jsonl")) == 24 * number
    first, second = record(done, 1), record(done, 2)
    card = json.loads((done / "round-1" / "reward" / "card.json").read_text())
    right = Interval(**card["measured"]["overall"]["accuracy"])
    assert f"(95 % interval {bounds(right, 'rate')})" in first["reward"]["told"]
    assert ("and so may chance" in first["reward"]["told"]) == (not right.low > 0.5)
    assert second["asked"]["policy"] == first["policy"]["sha256"] != second["policy"]["sha256"]
    assert second["policy"]["from"] == str(done / "round-1" / "policy" / "export")
    assert first["policy"]["learned_from"] == first["reward"]["sha256"]
    config = (done / "round-2" / "policy" / "config.yaml").read_text()
    assert f"learned(folder='{done / 'round-2' / 'reward'}')" in config
    assert (done / "round-2" / "pictures" / "000000-a.png").read_bytes() != (
        done / "round-1" / "pictures" / "000000-a.png"
    ).read_bytes()


def test_kills_at_every_stage_change_nothing(
    miniature: Miniature, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the second round when a stage begins, and again when it has ended and is not noted yet."""
    out = tmp_path / "loop"
    for stage in ("ask", "collect", "learn", "post_train"):
        for late in (False, True):
            there = getattr(rounds, stage)

            def killed(one: Loop, number: int, there: Any = there, late: bool = late) -> object:
                found = there(one, number) if number == 1 or late else None
                if number == 2:
                    raise KeyboardInterrupt
                return found

            with monkeypatch.context() as patch:
                patch.setattr(rounds, stage, killed)
                assert loop(miniature, out, "--rounds", "2") == 130
    assert loop(miniature, out, "--rounds", "2") == 0
    once, again = contents(done), contents(out)
    assert once.keys() == again.keys()
    assert [name for name in once if once[name] != again[name] and "export" not in name] == []
    for number in (1, 2):  # safetensors writes a file's metadata in any order
        one, other = (
            load_file(next((each / f"round-{number}" / "policy" / "export").glob("*.safetensors")))
            for each in (done, out)
        )
        assert all(torch.equal(one[name], other[name]) for name in one | other)


def test_what_was_learned_from_may_not_change(miniature: Miniature, done: Path, capsys: Any) -> None:
    """Nor the loop itself: one line says what is another, and where; more rounds are no other loop."""
    assert loop(miniature, done, "--rounds", "2", "--pairs", "12") == 2
    assert "holds a loop of another pairs (24 there, 12 now)" in capsys.readouterr().err
    votes = done / "round-1" / "so_far.jsonl"
    kept = votes.read_text()
    votes.write_text(kept.replace('"choice": "a"', '"choice": "b"'))
    assert loop(miniature, done, "--rounds", "2") == 2
    assert "round-1/so_far.jsonl is missing, or no longer what the loop went on from" in capsys.readouterr().err
    votes.write_text(kept)
    assert loop(miniature, done, "--rounds", "1") == 0


def test_people_are_waited_for(miniature: Miniature, tmp_path: Path, capsys: Any) -> None:
    """The page asks about the round's pairs, and the loop goes on from what the ledger holds."""
    out = tmp_path / "loop"
    more = ("--annotator", "people", "--rounds", "1", "--enough", "20")
    assert loop(miniature, out, *more) == 0
    asked = out / "round-1" / "asked.jsonl"
    assert f"0 of 20 pairs have a vote; ask people with: limner annotate {asked}" in capsys.readouterr().out
    ledger = Ledger(f"sqlite:///{asked.with_suffix('.db')}")
    ledger.add(*gather(asked))
    [(_, token)] = ledger.invite(1)
    who = ledger.who(token)
    assert who is not None
    better = {}
    for _ in range(20):
        [given] = ledger.next(who, 1)
        items = [ledger.board.items[ledger.board.tasks[given.task].items[place]] for place in given.order]
        side = int(items[0].path.name.endswith("-b.png"))
        ledger.record(who, vote(given, ("left", "right")[side]))
        better[items[side].path.name] = items[side].prompt
    assert loop(miniature, out, *more) == 0
    said = rows(out / "round-1" / "votes.jsonl")
    assert len(said) == 20 and {row["choice"] for row in said} == {"a"}
    assert all(row["annotators"] == ["annotator-1"] and len(row["propensity"]) == 1 for row in said)
    assert {Path(row["media_a"]).name for row in said} == set(better)
    assert (out / "round-1" / "policy" / "report.html").exists()


def test_votes_themselves_are_learned_from_where_the_recipe_says_so(miniature: Miniature, tmp_path: Path) -> None:
    """By DPO there is no reward, and the second round goes on from the first one's policy with both rounds' votes."""
    out = tmp_path / "loop"
    more = ("--rounds", "2", "--algorithm.noising.num_times=1", "--algorithm.noising.min_time=0")
    assert loop(miniature, out, *more, recipe="scenes_dpo", learning=()) == 0
    assert list(record(out, 2)) == ["asked", "votes", "policy"] and not (out / "round-2" / "reward").exists()
    assert f"data: {out / 'round-2' / 'so_far.jsonl'}" in (out / "round-2" / "policy" / "config.yaml").read_text()
    assert record(out, 2)["policy"]["from"] == str(out / "round-1" / "policy" / "export")


def test_active_choice_asks_what_the_members_disagree_about(miniature: Miniature, done: Path) -> None:
    """The first round has no reward to ask; in the second those chosen tell more than the others, and P is kept."""
    out = done.parent / "active"
    more = ("--rounds", "2", "--choice", "active", "--pool", "3", "--explore", "0.25")
    assert loop(miniature, out, *more) == 0
    first, second = (rows(out / f"round-{number}" / "asked.jsonl") for number in (1, 2))
    assert len(first) == len(second) == 24 and {row["propensity"] for row in first} == {1.0}
    assert {row["propensity"] for row in second} != {1.0} and record(out, 2)["asked"]["drawn"] == 72
    learned = Learned(str(out / "round-1" / "reward"))
    gains = {}
    for i in range(72):
        files = [out / "round-2" / "pictures" / f"{i:06d}-{side}.png" for side in "ab"]
        media = Images(torch.stack([torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) for file in files]))
        text = next((row["prompt"] for row in second if row["pair"] == i), None)
        if text is not None:
            a, b = learned.members(media, [Prompt(text)] * 2).double().unbind(1)
            p = torch.sigmoid(a - b)
            entropy = [-x * x.log() - (1 - x) * (1 - x).log() for x in (p.mean(), p)]
            gains[i] = float(entropy[0] - entropy[1].mean())
    assert all(row["asked"] == ("random" if held_out(row["prompt"]) else "active") for row in second)
    assert "asked" not in first[0]
    sure = [row["pair"] for row in second if row["asked"] == "active" and row["propensity"] > 0.9]
    chance = [row["pair"] for row in second if row["asked"] == "active" and row["propensity"] < 0.5]
    assert sure and min(gains[i] for i in sure) >= max([gains[i] for i in chance], default=0.0) - 1e-6


WHIMS = """
import hashlib


def whims(media, prompts):
    return [hashlib.sha256(frame.numpy().tobytes()).digest()[0] for frame in media.values]
"""


def test_a_round_whose_reward_is_in_doubt_waits_for_more_votes(miniature: Miniature, tmp_path: Path) -> None:
    """Nobody can learn whims: no policy is made of them, the base draws the next pairs, and all votes are kept."""
    (tmp_path / "mine.py").write_text(WHIMS)
    out, more = tmp_path / "loop", ("--annotator", f"{tmp_path / 'mine.py'}:whims")
    for _ in range(2):  # the second finds nothing left to do
        assert loop(miniature, out, *more, "--rounds=2", "--doubtful=wait") == 0
    for number in (1, 2):
        told, place = record(out, number), out / f"round-{number}"
        right = json.loads((place / "reward" / "card.json").read_text())["measured"]["overall"]["accuracy"]
        assert told["reward"]["doubtful"] is True and right["low"] <= 0.5
        assert told["policy"]["told"].startswith("not trained") and not (place / "policy").exists()
        assert told["asked"]["policy"] == str(miniature.model)
        assert {row["source_a"] for row in rows(place / "asked.jsonl")} == {"base"}
    assert len(rows(out / "round-2" / "so_far.jsonl")) == 48
    assert loop(miniature, out, *more, "--rounds=3", "--doubtful=train") == 0
    last = record(out, 3)["policy"]
    assert last["from"] == "" and last["file"] == "policy/export" and (out / "round-3" / "policy" / "export").is_dir()
    assert len(rows(out / "round-3" / "so_far.jsonl")) == 72


PICKY = """
def picky(media, prompts):
    height = media.frames().shape[-2]
    if height > 4:
        raise ValueError(f"4 rows are needed, got {height}")
    return [0.0] * len(prompts)
"""


@pytest.mark.parametrize(
    "words",
    [
        ("--annotator", "{}:picky"),
        ("--reward", "learned + {}:picky"),
        ("--evaluation.reward", "{}:picky", "--evaluation.prompts", "{}/../prompts.txt"),
    ],
)
def test_a_judge_that_does_not_fit_is_found_before_anybody_is_asked(
    words: Sequence[str], miniature: Miniature, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "mine.py").write_text(PICKY)
    mine = [each.replace("{}/..", str(tmp_path)).replace("{}", str(tmp_path / "mine.py")) for each in words]
    people = () if "--annotator" in mine else ("--annotator", "people")
    assert loop(miniature, tmp_path / "loop", *people, *mine) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"limner: {words[0]} ") and "picky: it cannot judge what the model draws: reward" in said
    assert "4 rows are needed, got 32" in said and not (tmp_path / "loop" / "round-1").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["scenes_dpo"], "has no prompts to draw pairs for: give --prompts"),
        (["scenes_dpo", "--prompts", "scenes:train", "--choice", "active"], "learns from votes themselves: take"),
        (["scenes_dpo", "--prompts", "scenes:train", "--learned.epochs", "3"], "no reward is learned"),
        (["scenes", "--reward", "jpeg_size"], "does not name the round's reward: write learned"),
        (["scenes", "--learned.epoch", "3"], "epochs"),
        (["scenes", "--annotator", "nobody"], "unknown reward 'nobody'"),
        (["scenes", "--explore", "2"], "explore"),
        (["scenes", "--evaluation.prompts", "nowhere.txt"], "prompts nowhere.txt: no such file"),
    ],
)
def test_what_could_not_work_is_refused_before_anything_is_drawn(
    words: list[str], said: str, tmp_path: Path, capsys: Any
) -> None:
    assert main(["loop", *words, "--out", str(tmp_path / "loop")]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "loop").exists()
