"""Two processes under torchrun give one process's run: its weights, its log and one folder, to float error.

The gradients of single steps are compared in test_team_gradients.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from limner.build import Assembly, assemble
from limner.claim import require_unheld
from limner.cli import main
from limner.core.errors import UserError
from limner.recipes.yaml import to_yaml
from limner.report.metrics import read
from limner.training.config import Optimizer
from run.miniature import Miniature, last_checkpoint
from run.process import PATIENCE, start

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


def require_alike(start: Assembly, one: Path, two: Path) -> None:
    """Require of two runs the same weights and log, to float error; in some iteration samples were not judged.

    Weights are compared tensor by tensor, by the norm of what parts them over that of the way they went. AdamW divides
    by the size of the gradient, so where that is not much larger than its own rounding, which differs from run to run,
    a part of one element's step is rounding: so half of the tensors are within 1e-4, and each within 1e-2.
    """
    before = start.parts.weights.state()["policy"]
    mine, theirs = (last_checkpoint(run)["weights"]["policy"] for run in (one, two))
    assert mine.keys() == theirs.keys()
    parts = []
    for place, weights in mine.items():
        apart, way = (float((weights - other[place]).norm()) for other in (theirs, before))
        assert apart <= 1e-2 * way, f"{place}: {apart:.3g} apart after a way of {way:.3g}"
        parts.append(apart / way if way else 0.0)
    assert statistics.median(parts) <= 1e-4
    logs = [read(run) for run in (one, two)]
    assert sum(line["invalid"] for line in logs[0]) > 0
    for first, second in zip(*logs, strict=True):
        assert first.keys() == second.keys()
        for key in (key for key in first if not key.startswith("seconds/")):
            assert second[key] == pytest.approx(first[key], rel=1e-3, abs=1e-6, nan_ok=True), key


@pytest.mark.parametrize("name", ALGORITHMS)
def test_two_processes_are_one(
    name: str, miniature: Miniature, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Three iterations of three prompts, one beside two; a sample of one of them cannot be judged."""
    (tmp_path / "picky.py").write_text(PICKY)
    recipe, one, two = (tmp_path / name for name in ("recipe.yaml", "one", "two"))
    recipe.write_text(to_yaml(miniature.config(tmp_path / "unused")))
    arguments = ["train", str(recipe), "--reward", f"{tmp_path / 'picky.py'}:picky", "--micro_batch", "4", "--quiet"]
    arguments += ["--prompts_per_step", "3"]
    arguments += ["--evaluation.prompts", str(miniature.prompts), "--evaluation.reward", "jpeg_size"]
    arguments += ALGORITHMS[name].split()
    assert main([*arguments, "--out", str(one)]) == 0
    shared = [*arguments, "--out", str(two)]
    if name == "FlowGRPO":
        done = torchrun(2, shared)
        assert done.returncode == 0 and done.stdout.count("report.html") == 1, done.stderr
    else:
        capfd.readouterr()
        assert main([*shared, "--nproc", "2"]) == 0
        assert capfd.readouterr().out.count("report.html") == 1
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in two.iterdir())
    require_alike(assemble(miniature.config(tmp_path / "unused")), one, two)
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
    processes: int, arguments: str, says: str, miniature: Miniature, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(to_yaml(miniature.config(tmp_path / "run")))
    with pytest.raises(SystemExit, match="2"):
        main(["train", str(recipe), *arguments.split(), "--nproc", str(processes)])
    said = capfd.readouterr().err
    assert said.startswith(f"limner: {says}") and said.count("\n") == 1
    assert not (tmp_path / "run").exists()


LATE = '''
import os


def late(media, prompts):
    """Of the second process the third answer is an error."""
    late.asked = getattr(late, "asked", 0) + 1
    if os.environ["RANK"] == "1" and late.asked == 3:
        raise ValueError("no such picture")
    return media.frames().mean((1, 2, 3, 4))
'''


def test_what_ends_one_ends_all_and_is_said_once(
    miniature: Miniature, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first process says that it has lost another and how to go on, then the launcher why that one has ended."""
    (tmp_path / "late.py").write_text(LATE)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(to_yaml(miniature.config(tmp_path / "run", steps=400)))
    command = ["train", str(recipe), "--reward", f"{tmp_path / 'late.py'}:late", "--nproc", "2", "--quiet"]
    assert main(command) == 1
    first, second = capfd.readouterr().err.splitlines()
    assert first.startswith("limner: another of the processes") and first.endswith("go on with --resume")
    assert second.startswith("limner: process 1 of 2: ") and "no such picture" in second


def test_a_run_goes_on_in_another_number_of_processes(miniature: Miniature, tmp_path: Path) -> None:
    """An iteration alone, one of two processes and one alone again end where three alone end, to float error."""
    changes = {"optimizer": Optimizer(lr=1e-2, ema=0.8), "prompts_per_step": 3}
    config = miniature.config(tmp_path / "unused", "sometimes", **changes)
    recipe, whole, other = (tmp_path / name for name in ("recipe.yaml", "whole", "other"))
    recipe.write_text(to_yaml(config))
    command = ["train", str(recipe), "--quiet", "--micro_batch", "4"]
    assert main([*command, "--out", str(whole)]) == 0
    for steps, processes, more in (("1", "1", []), ("2", "2", ["--resume"]), ("3", "1", ["--resume"])):
        assert main([*command, "--out", str(other), "--steps", steps, "--nproc", processes, *more]) == 0
    require_alike(assemble(config), whole, other)


DEADLY = """

import multiprocessing
import os
import signal
import time
from pathlib import Path


def deadly(media, prompts):
    \"\"\"In the second iteration the second process kills the one that started it, and waits for its own end.\"\"\"
    lines = Path("{folder}/metrics.jsonl")
    if os.environ.get("RANK") == "1" and lines.exists() and lines.read_text():
        os.kill(multiprocessing.parent_process().pid, signal.SIGKILL)
        time.sleep(60)
    return picky(media, prompts)
"""


def test_a_run_of_two_that_is_killed_within_an_iteration_goes_on_alone(miniature: Miniature, tmp_path: Path) -> None:
    """Uneven groups, a sample that cannot be judged, and no process left: it ends where one alone does."""
    recipe, whole, other, judges = (tmp_path / name for name in ("recipe.yaml", "whole", "other", "judges.py"))
    judges.write_text(PICKY + DEADLY.format(folder=other))
    config = replace(
        miniature.config(tmp_path / "unused", prompts_per_step=3, micro_batch=4), reward=f"{judges}:deadly"
    )
    recipe.write_text(to_yaml(config))
    command = ["train", str(recipe), "--quiet"]
    assert main([*command, "--out", str(whole)]) == 0
    two = start([*command, "--out", str(other), "--nproc", "2"], tmp_path / "stderr")
    two.process.join(4 * PATIENCE)
    assert two.process.exitcode == -signal.SIGKILL and len(read(other)) == 1, two.lines()
    end = time.monotonic() + PATIENCE
    while _is_held(other):
        assert time.monotonic() < end
        time.sleep(0.1)
    assert main([*command, "--out", str(other), "--resume"]) == 0
    require_alike(assemble(config), whole, other)


def _is_held(folder: Path) -> bool:
    try:
        require_unheld(folder)
    except UserError:
        return True
    return False
