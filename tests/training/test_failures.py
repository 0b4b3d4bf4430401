"""Judges that fail, and losses that are not finite: counted, left out, and in the end a reason to stop."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import limner.algorithms.diffusion_nft
from limner.build import assemble
from limner.cli import main
from limner.core.errors import UserError
from limner.objectives.matching import nft_loss
from limner.recipes.yaml import to_yaml
from limner.report.metrics import read
from limner.run import train
from limner.training.config import Evaluation
from run.miniature import Miniature, differences, last_checkpoint

FAILS_LATER = """
import torch

calls = []


def reward(media, prompts):
    calls.append(len(prompts))
    red = media.frames()[:, 0, 0].mean((1, 2))
    return red if len(calls) <= {calls} else torch.full_like(red, torch.nan)
"""


def test_samples_that_were_not_judged_are_left_out(miniature: Miniature, tmp_path: Path) -> None:
    """Three of eight: the mean is that of the others (near 10,000; zeros would make it 6,250), and training goes on."""
    config = miniature.config(tmp_path / "run", "sometimes", evaluation=Evaluation(str(miniature.prompts), seeds=2))
    start = assemble(config).parts.weights.state()["policy"]
    start = {name: tensor.clone() for name, tensor in start.items()}
    run = train(config)
    for line in read(run.folder):
        assert line["invalid"] == 3 and line["skipped"] == 0 and line["grad_norm"] > 0
        assert line["reward/mean"] == pytest.approx(line["reward/sometimes"], rel=1e-6)
        assert abs(line["reward/mean"] - 10_000) < 500 and line["reward/std"] < 500
    assert differences(start, run.assembly.parts.weights.state()["policy"])
    summary = json.loads((run.folder / "summary.json").read_text())
    assert summary["invalid"] == 9 and abs(summary["heldout"]["before"]["value"] - 10_000) < 500
    dry_run = [
        "reward 'sometimes' did not judge 3 of 8 samples: they teach nothing",
        "the evaluation's reward judged none of the held-out samples",
    ]
    assert summary["notices"] == [*dry_run, "9 samples could not be judged."]
    assert "9 samples could not be judged." in (run.folder / "report.html").read_text()


def test_a_reward_that_always_fails_stops_the_run(
    miniature: Miniature, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "run"
    recipe.write_text(to_yaml(miniature.config(out, "never", steps=9)))
    reason = "limner: no valid sample in 3 iterations in a row: reward 'never' judged none of the 8 samples"
    assert main(["train", str(recipe)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "note: the reward judged none of the samples; a run stops after 3 iterations of that kind"
    assert lines[-1].startswith(reason)
    assert [(line["step"], line["invalid"], line["reward/mean"]) for line in read(out)] == [(0, 8, None), (1, 8, None)]
    assert last_checkpoint(out)["state"]["failed"] == 2
    assert main(["report", str(out)]) == 0 and "16 samples could not be judged" in (out / "report.html").read_text()
    assert main(["train", str(recipe), "--resume"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(reason)


def test_a_reward_that_begins_to_fail_keeps_what_was_learnt(
    miniature: Miniature, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The dry run asks three times, and each of two good iterations once; the file mended, the run goes on."""
    file, recipe, out = tmp_path / "later.py", tmp_path / "recipe.yaml", tmp_path / "run"
    file.write_text(FAILS_LATER.format(calls=5))
    config = miniature.config(out, steps=6, checkpoint_every=2)
    recipe.write_text(to_yaml(replace(config, reward=f"{file}:reward")))
    assert main(["train", str(recipe), "--quiet"]) == 1
    assert "no valid sample in 3 iterations in a row" in capsys.readouterr().err
    assert [line["invalid"] for line in read(out)] == [0, 0, 8, 8]
    file.write_text(FAILS_LATER.format(calls=10**6))
    assert main(["train", str(recipe), "--quiet", "--resume", "--accept-changes"]) == 0
    assert [(line["step"], line["invalid"]) for line in read(out)] == [(0, 0), (1, 0), (2, 8), (3, 8), (4, 0), (5, 0)]


def test_held_out_prompts_that_nobody_can_judge(miniature: Miniature, tmp_path: Path) -> None:
    """The run ends, with a report, and without a made-up number."""
    evaluation = Evaluation(str(miniature.prompts), miniature.reward("never"), seeds=2, every=1)
    run = train(miniature.config(tmp_path / "run", steps=1, evaluation=evaluation))
    summary = json.loads((run.folder / "summary.json").read_text())
    assert "heldout" not in summary and "heldout/overall" not in read(run.folder)[0]
    assert "could not be judged" in (run.folder / "report.html").read_text()


def broken(monkeypatch: pytest.MonkeyPatch, steps: range) -> None:
    """Make DiffusionNFT's losses NaN at some of its steps; the first is that of the dry run."""
    calls: list[int] = []

    def loss(*arguments: Any, **options: Any) -> torch.Tensor:
        calls.append(len(calls))
        return nft_loss(*arguments, **options) * (math.nan if calls[-1] in steps else 1.0)

    monkeypatch.setattr(limner.algorithms.diffusion_nft, "nft_loss", loss)


def test_a_step_that_is_not_finite_is_skipped(
    miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of five iterations the second and third: weights, averages and optimizer stand still in them."""
    config = miniature.config(tmp_path / "run", steps=1, micro_batch=16)
    one = train(config)
    broken(monkeypatch, range(2, 4))
    three = train(replace(config, steps=3, out=str(tmp_path / "three")))
    assert [line["skipped"] for line in read(three.folder)] == [0, 1, 1]
    assert [line["step"] for line in read(three.folder) if "grad_norm" in line] == [0]
    a, b = last_checkpoint(one.folder), last_checkpoint(three.folder)
    assert differences(a["weights"]["policy"], b["weights"]["policy"]) == []
    assert differences(a["stepper"]["optimizer"], b["stepper"]["optimizer"]) == []
    assert b["stepper"]["num_skipped"] == b["stepper"]["skipped_in_row"] == 2
    broken(monkeypatch, range(2, 4))
    five = train(replace(config, steps=5, out=str(tmp_path / "five")))
    assert last_checkpoint(five.folder)["stepper"]["skipped_in_row"] == 0
    assert differences(b["weights"]["policy"], last_checkpoint(five.folder)["weights"]["policy"])


def test_five_steps_in_a_row_that_are_not_finite_stop_the_run(
    miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "run"
    recipe.write_text(to_yaml(miniature.config(out, steps=9, micro_batch=16)))
    broken(monkeypatch, range(3, 99))
    assert main(["train", str(recipe), "--quiet"]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("limner: 5 optimizer steps in a row could not be made, up to step 6: the loss is nan")
    assert [line["skipped"] for line in read(out)] == [0, 0, 1, 1, 1, 1]
    assert last_checkpoint(out)["state"]["iteration"] == 6


def test_weights_that_are_not_finite_stop_the_run(miniature: Miniature, tmp_path: Path) -> None:
    """They are found when the model is loaded."""
    config = miniature.config(tmp_path / "run", "redness")
    bad = tmp_path / "bad"
    pipeline = assemble(replace(config, model=replace(config.model, train=limner.Full()))).model.pipeline
    pipeline.transformer.proj_out.bias.data[0] = math.nan
    pipeline.save_pretrained(bad)
    with pytest.raises(UserError, match="weight proj_out.bias of its transformer is not finite"):
        train(replace(config, model=replace(config.model, path=str(bad))))


RAISES_LATER = """
calls = []


def inner(media, prompts):
    if len(calls) > {calls}:
        raise ConnectionError("429 Too Many\\nRequests")
    return media.frames()[:, 0, 0].mean((1, 2))


def reward(media, prompts):
    calls.append(len(prompts))
    return inner(media, prompts)
"""


def test_a_reward_that_raises_is_one_line_and_keeps_the_checkpoint(
    miniature: Miniature, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names reward, file and line; the traceback is in the folder; the file mended, the run goes on."""
    file, recipe, out = tmp_path / "later.py", tmp_path / "recipe.yaml", tmp_path / "run"
    file.write_text(RAISES_LATER.format(calls=5))
    recipe.write_text(to_yaml(replace(miniature.config(out, steps=3, checkpoint_every=1), reward=f"{file}:reward")))
    assert main(["train", str(recipe), "--quiet"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "limner: reward 'reward' raised ConnectionError at line 7 of later.py: 429 Too Many Requests ("
    )
    assert "the last checkpoint stands: mend the reward, and go on with --resume --accept-changes" in line
    said = (out / "traceback.txt").read_text()
    assert "in inner" in said and str(file) in said and str(out / "traceback.txt") in line
    assert last_checkpoint(out)["state"]["iteration"] == 2
    file.write_text(RAISES_LATER.format(calls=10**6))
    assert main(["train", str(recipe), "--quiet", "--resume", "--accept-changes"]) == 0
    assert [line["step"] for line in read(out)] == [0, 1, 2]
