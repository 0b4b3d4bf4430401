"""Two processes under torchrun give one process's run: its weights, its log and one folder, to float error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from limner.build import assemble
from limner.cli import main
from limner.recipes.yaml import to_yaml
from limner.report.metrics import read
from run.miniature import Miniature, last_checkpoint

PICKY = '''
import torch


def picky(media, prompts):
    """How red the left half is, and no answer for the first picture of a blue circle that it is shown at once."""
    red = media.frames()[:, 0, 0]
    scores = 100 * (red[:, :, :16].mean((1, 2)) - red[:, :, 16:].mean((1, 2)))
    blue = [i for i, prompt in enumerate(prompts) if "blue" in prompt.text]
    scores[blue[:1]] = torch.nan
    return scores
'''
ALGORITHMS = {
    "DiffusionNFT": "--algorithm.num_updates 2 --algorithm.decay_rate 0.2",
    "FlowGRPO": "--algorithm FlowGRPO --sampler.dynamics FlowSDE --algorithm.scale batch --algorithm.kl_weight 0.01",
    "DDPO": "--algorithm DDPO --sampler.dynamics FlowSDE --algorithm.min_count 2",
    "DGPO": "--algorithm DGPO --algorithm.num_updates 2",
}


def torchrun(processes: int, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run `limner` in so many processes."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*start, "-m", "limner", *arguments], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_two_processes_are_one(name: str, miniature: Miniature, tmp_path: Path) -> None:
    """Three iterations of two prompts, one a process; a sample of one of them cannot be judged."""
    (tmp_path / "picky.py").write_text(PICKY)
    recipe, one, two = (tmp_path / name for name in ("recipe.yaml", "one", "two"))
    recipe.write_text(to_yaml(miniature.config(tmp_path / "unused")))
    arguments = ["train", str(recipe), "--reward", f"{tmp_path / 'picky.py'}:picky", "--micro_batch", "4", "--quiet"]
    arguments += ["--evaluation.prompts", str(miniature.prompts), "--evaluation.reward", "jpeg_size"]
    arguments += ALGORITHMS[name].split()
    assert main([*arguments, "--out", str(one)]) == 0
    done = torchrun(2, [*arguments, "--out", str(two)])
    assert done.returncode == 0 and done.stdout.count("report.html") == 1, done.stderr
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in two.iterdir())
    start = assemble(miniature.config(tmp_path / "unused")).parts.weights.state()["policy"]
    mine, theirs = (last_checkpoint(run)["weights"]["policy"] for run in (one, two))
    for place, weights in mine.items():
        moved = float((weights - start[place]).abs().max())
        torch.testing.assert_close(theirs[place], weights, rtol=0, atol=1e-3 * moved)
    logs = [read(run) for run in (one, two)]
    assert sum(line["invalid"] for line in logs[0]) > 0
    for first, second in zip(*logs, strict=True):
        assert first.keys() == second.keys()
        for key in (key for key in first if not key.startswith("seconds/")):
            assert second[key] == pytest.approx(first[key], rel=1e-3, abs=1e-6, nan_ok=True), key
    before, after = (json.loads((run / "summary.json").read_text()) for run in (one, two))
    assert before["heldout"]["before"] == after["heldout"]["before"]
    assert before["network_evaluations"] == after["network_evaluations"]


@pytest.mark.parametrize(
    ("processes", "arguments", "says"),
    [
        (3, "", "3 processes share whole groups, but an iteration has 2"),
        (2, "--algorithm PPO --sampler.dynamics FlowSDE", "PPO learns from the states of all samples at once"),
    ],
)
def test_what_cannot_be_shared_is_refused(
    processes: int, arguments: str, says: str, miniature: Miniature, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(to_yaml(miniature.config(tmp_path / "run")))
    done = torchrun(processes, ["train", str(recipe), *arguments.split()])
    assert done.returncode != 0 and says in done.stderr and "Traceback" not in done.stderr.split("limner:")[0]
    assert not (tmp_path / "run").exists()
