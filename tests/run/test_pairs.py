"""`limner pairs make`, as typed: what it says of its pictures is so, it goes on where it stopped, and it trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

import limner
from limner import pairs
from limner.cli import main
from limner.core.media import Images, Videos
from limner.core.types import Composed, Prompt
from limner.data.preferences import read_preferences
from limner.recipes.named import recipe
from limner.recipes.override import override
from run.miniature import Miniature
from run.test_wan_run import CHAPTER
from run.typed import typed

COUNT = 6


def make(miniature: Miniature, out: Path, *more: str) -> int:
    words = ["--reward", miniature.reward("redness"), "--prompts", str(miniature.prompts), "--count", str(COUNT)]
    return main(["pairs", "make", str(miniature.model), *words, "--steps", "3", "--out", str(out), *more])


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def redness(path: Path) -> int:
    """What the miniature's reward says, from the file, by numpy alone."""
    red = np.asarray(Image.open(path), np.float64)[..., 0] / 255
    half = red.shape[1] // 2
    return round(1000 * (red[:, :half].mean() - red[:, half:].mean()))


@pytest.fixture(scope="module")
def made(miniature: Miniature, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs") / "made"
    assert make(miniature, folder) == 0
    return folder


def test_the_better_picture_is_the_one_with_the_higher_reward(made: Path) -> None:
    told = rows(made)
    assert len(told) >= 3 and len(list((made / "pictures").iterdir())) == 2 * len(told)
    for row in told:
        assert row["score_a"] != row["score_b"] and row["choice"] == ("a" if row["score_a"] > row["score_b"] else "b")
        for side in "ab":  # a mean on the edge of two whole levels may round either way
            assert abs(redness(made / row[f"media_{side}"]) - row[f"score_{side}"]) <= 1
        assert (made / row["media_a"]).read_bytes() != (made / row["media_b"]).read_bytes()
    found, faults = read_preferences(made)
    assert [each.worth for each in found] == [(1, 0) if row["choice"] == "a" else (0, 1) for row in told]
    assert not faults and found[0].pictures[0] == made / told[0]["media_a"]


def test_it_goes_on_where_it_stopped(
    miniature: Miniature, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, calls = pairs._drawn, []

    def stopping(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == 2:
            drawn(*given)  # its pictures are written, and nothing says so yet
            raise KeyboardInterrupt
        return drawn(*given)

    monkeypatch.setattr(pairs, "BATCH", 4)
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    assert make(miniature, whole) == 0
    monkeypatch.setattr(pairs, "_drawn", stopping)
    assert make(miniature, parted) == 130 and json.loads((parted / "made.json").read_text())["drawn"] == 4
    assert make(miniature, parted) == 0 and contents(parted) == contents(whole)
    assert make(miniature, parted) == 0 and len(calls) == 3  # nothing is left to do


def test_another_seed_draws_others_and_another_making_is_refused(
    miniature: Miniature, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make(miniature, tmp_path / "other", "--seed", "1") == 0
    first, other = ({path.read_bytes() for path in (f / "pictures").iterdir()} for f in (made, tmp_path / "other"))
    assert not first & other
    assert make(miniature, made, "--seed", "1") == 2 and "holds pairs of seed 0, not 1" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x.txt").write_text("x")
    assert make(miniature, tmp_path / "mine") == 2 and "x.txt and is no folder of pairs" in capsys.readouterr().err
    assert make(miniature, tmp_path / "even", "--reward", "0 * symmetry") == 2
    assert "tells none of 6 pairs apart" in capsys.readouterr().err


def test_preferences_train_on_them(miniature: Miniature, made: Path, tmp_path: Path) -> None:
    """A tuned run is then the other model: its pictures are the second of each pair."""
    run, small = tmp_path / "run", ["--steps", "2", "--prompts_per_step", "2", "--micro_batch", "8", "--quiet"]
    words = ["--source.data", str(made), "--model.path", str(miniature.model), "--evaluation.prompts", ""]
    assert main(["train", "scenes_dpo", *words, *small, "--optimizer.lr", "0.05", "--out", str(run)]) == 0
    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(log) == 2 and all(torch.tensor(line["loss"]).isfinite() for line in log)
    both = tmp_path / "both"
    words = ["--reward", miniature.reward("redness"), "--prompts", str(miniature.prompts), "--count", str(COUNT)]
    assert main(["pairs", "make", str(miniature.model), str(run), *words, "--steps", "3", "--out", str(both)]) == 0
    before, after = ({row["pair"]: row for row in rows(folder)} for folder in (made, both))
    shared = before.keys() & after.keys()
    assert shared and json.loads((both / "made.json").read_text())["models"] == [str(miniature.model), str(run)]
    for pair in shared:
        assert before[pair]["score_a"] == after[pair]["score_a"]
        names = [folder / after[pair]["media_b"] for folder in (made, both)]
        assert names[0].read_bytes() != names[1].read_bytes()


def test_pictures_are_encoded_once_however_long_it_learns(
    miniature: Miniature, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted at the autoencoder, picture by picture: of three epochs, with a picture that stands in two pairs."""
    told = [row | {f"media_{side}": str(made / row[f"media_{side}"]) for side in "ab"} for row in rows(made)][:3]
    told.append(told[0] | {"media_b": told[1]["media_b"]})
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
    own, asked = AutoencoderKL.encode, list[bytes]()

    def counted(self: AutoencoderKL, x: torch.Tensor, *more: Any, **named: Any) -> Any:
        asked.extend(np.round(picture.float().cpu().numpy(), 3).tobytes() for picture in x)
        return own(self, x, *more, **named)

    monkeypatch.setattr(AutoencoderKL, "encode", counted)
    words = ["--source.data", str(tmp_path / "pairs.jsonl"), "--model.path", str(miniature.model)]
    small = ["--steps", "6", "--prompts_per_step", "2", "--micro_batch", "4", "--quiet", "--evaluation.prompts", ""]
    assert main(["train", "scenes_dpo", *words, *small, "--out", str(tmp_path / "run")]) == 0
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 6  # of two pairs each
    different = {Path(row[f"media_{side}"]).read_bytes() for row in told for side in "ab"}
    assert len(asked) == len(set(asked)) == len(different) == 6


def test_the_dry_run_says_what_is_given(miniature: Miniature, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--source.data", str(made), "--model.path", str(miniature.model), "--evaluation.prompts", ""]
    small = ["--prompts_per_step", "3", "--micro_batch", "8"]
    assert main(["check", "scenes_dpo", *words, *small, "--group_size", "4"]) == 0
    said = capsys.readouterr().out
    assert "3 given groups, 6 samples" in said and f"given        by Preferences(data='{made}'" in said


def test_a_wrong_pairing_is_refused_with_the_way_out(
    miniature: Miniature, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    liked = {"prompt": "a red star", "image": "x.png", "label": 1}
    (tmp_path / "liked.jsonl").write_text(json.dumps(liked) + "\n")
    for name, label in (("disliked", 0), ("both", 1)):
        rows = [liked | {"label": label}, liked | {"label": 0}]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--model.path", str(miniature.model), "--evaluation.prompts", "", "--source.data"]
    kto, unpair = ["--algorithm", "KTO"], ["--source.unpair", "true"]
    num_pairs = len((made / "pairs.jsonl").read_text().splitlines())
    for more, said in (
        ([str(made), *kto], f"KTO learns from single pictures that are liked or not, but {num_pairs} of {num_pairs}"),
        ([str(made), *kto], f"rows of {made} are pairs, which say what is better and not what is good: take DPO, or"),
        ([str(made), *kto], "the worse one as not, give --source.unpair true"),
        ([str(made), *unpair], "DPO learns from which of two pictures is better, and source.unpair makes single ones"),
        ([str(tmp_path / "liked.jsonl"), *kto], "KTO learns from wanted pictures beside unwanted ones, but all of"),
        ([str(tmp_path / "liked.jsonl"), *kto], "are wanted (the line is at 0.5): collect the other kind too"),
        ([str(tmp_path / "disliked.jsonl"), *kto], "are unwanted (the line is at 0.5)"),
        ([str(tmp_path / "both.jsonl"), *kto, "--algorithm.threshold", "0"], "are wanted (the line is at 0)"),
        ([str(tmp_path), "--source", "Pictures"], "DPO compares the samples of a group, but each of source Pictures"),
        ([str(tmp_path / "liked.jsonl")], "DPO learns from a better and a worse picture of one prompt, but"),
        (
            [str(tmp_path / "liked.jsonl"), "--algorithm", "FlowGRPO", "--sampler.dynamics", "FlowSDE"],
            "FlowGRPO scores the decisions by which samples",
        ),
    ):
        assert main(["check", "scenes_dpo", *words, *more]) == 2 and said in capsys.readouterr().err
    assert main(["check", "scenes", "--preset", "online_dpo", "--group_size", "1"]) == 2
    assert "group_size is 1, but DPO compares the samples of a group with one another" in capsys.readouterr().err
    small = ["--prompts_per_step", "2", "--micro_batch", "4"]
    assert main(["check", "scenes_dpo", *words, str(tmp_path / "both.jsonl"), *kto, *small]) == 0
    assert main(["check", "scenes_dpo", *words, str(made), *kto, *unpair, *small]) == 0
    assert "2 given groups, 4 samples" in capsys.readouterr().out


@pytest.mark.parametrize(("algorithm", "copies"), [("DPO", 2), ("MaPO", 1)])
def test_mapo_keeps_no_reference_in_memory(miniature: Miniature, made: Path, tmp_path: Path, algorithm, copies) -> None:
    """Counted when all weights are trained: the elements of every network that the run still holds."""
    values = {
        "source.data": str(made), "model.path": str(miniature.model), "evaluation.prompts": str(miniature.prompts),
        "evaluation.reward": "contrast", "evaluation.seeds": 1, "algorithm": algorithm, "model.train": "Full",
        "steps": 1, "prompts_per_step": 2, "micro_batch": 8, "out": str(tmp_path), "evaluation.every": 0,
    }  # fmt: skip
    run = limner.train(override(recipe("scenes_dpo"), values), quiet=True)
    parts = run.assembly.parts
    held = {p.data_ptr(): p.numel() for role in parts.weights.roles.values() for n in role.networks.values()
            for p in n.parameters()}  # fmt: skip
    assert sum(held.values()) == copies * sum(p.numel() for p in parts.weights.parameters().values())
    assert (tmp_path / "samples" / "before-sampler").is_dir()


def test_every_command_of_the_page_runs(
    miniature: Miniature, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it stands there, made tiny: another model, fewer and smaller steps, a folder of two folders."""
    commands = typed("docs/preferences.md")
    assert [words[0] for words in commands] == ["train", "pairs", "train", "pairs", "train"]
    assert commands[1:3] == typed("docs/preferences.md", CHAPTER)  # of clips: tests/run/test_wan_run.py
    del commands[1:3]
    monkeypatch.chdir(tmp_path)
    for name, side in (("chosen", "a"), ("rejected", "b")):
        (tmp_path / "my_folder" / name).mkdir(parents=True)
        for row in rows(made):
            picture = (made / row[f"media_{side}"]).read_bytes()
            (tmp_path / "my_folder" / name / f"a_red_star_{row['pair']}.png").write_bytes(picture)
    for words in commands:
        words = [str(miniature.model) if word == "stable-diffusion-3.5-medium" else word for word in words]
        if words[0] == "train":
            words += ["--steps", "1", "--prompts_per_step", "2", "--micro_batch", "8", "--quiet"]
            words += ["--evaluation.prompts", ""]
        else:
            words[words.index("--count") + 1] = "8"
        assert main(words) == 0


class Growing:
    """A jury that says how bright the last frame that it sees is, and refuses to judge a black one."""

    def columns(self, media: Videos, prompts: list[Prompt]) -> dict[str, torch.Tensor]:
        last = media.values[:, -1].flatten(1).mean(1)
        return {"last": last.masked_fill(last == 0, torch.nan)}

    def comparisons(self, media: Videos, prompts: list[Prompt], group: torch.Tensor) -> dict[str, torch.Tensor]:
        return {}

    def total(self, columns: dict[str, torch.Tensor], group: torch.Tensor) -> Composed:
        return Composed(columns["last"], columns["last"].isfinite(), {})


def test_segments_are_judged_by_themselves() -> None:
    """Of nine frames in fours the last one is judged with the second four; in threes the last frames are 2, 5 and 8."""
    first = torch.tensor([0, 0, 0.5, 0.6, 0.1, 0.7, 0.3, 0.2, 0.9])
    second = torch.tensor([0, 0, 0.5, 0.7, 0.1, 0.8, 0.3, 0.2, 0.1])
    media = Videos(torch.stack([first, second]).view(2, 9, 1, 1, 1).expand(-1, -1, 3, 2, 2), 8.0)
    jury: Any = Growing()
    for length, told in [(4, [-1, 1, 1]), (3, [0, -1, 1]), (2, [0, -1, -1, 1, 1]), (9, [1]), (50, [1])]:
        assert pairs.labels(jury, media, [Prompt("p")], length).tolist() == [told], length
    with pytest.raises(limner.UserError, match="is of clips, and the model draws Images"):
        pairs.labels(jury, Images(media.values[:, 0]), [Prompt("p")], 4)


def test_both_of_a_pair_go_on_from_one_sample(miniature: Miniature, tmp_path: Path) -> None:
    """The less noise, the more alike they are."""
    apart = {}
    for level in ("0.4", "0.9"):
        assert make(miniature, tmp_path / level, "--vary", level, "--count", "4") == 0
        places = [[tmp_path / level / row[f"media_{side}"] for side in "ab"] for row in rows(tmp_path / level)]
        both = [[np.asarray(Image.open(path), np.float64) for path in pair] for pair in places]
        apart[level] = np.mean([np.abs(a - b).mean() for a, b in both])
    assert 0 < apart["0.4"] < apart["0.9"]


def test_a_level_that_is_none_is_refused(
    miniature: Miniature, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make(miniature, tmp_path / "none", "--vary", "1.5") == 2
    assert "--vary is a time between 0, the sample itself, and 1" in capsys.readouterr().err
