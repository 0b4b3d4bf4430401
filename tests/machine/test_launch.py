"""`limner launch`: the scripts are what they were, and a shell that carries them out does what they are for.

Slurm's commands, torchrun and limner are stand-ins that write down what they were told. `LIMNER_GOLDEN=write` writes
the files anew.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from golden.test_texts import compare
from limner.cli import main

SHARED = "--nodes 2 --gpus-per-node 8 --prompts_per_step 48 --max-hours 12 --out out --run 'runs/a run'"
ASKS = """--reward "remote(url='http://127.0.0.1:8000')" --judge 'ocr(metric="exact")' --judge-gpus 2"""
MODEL = """--reward "vlm_yes_no(url='http://localhost:9000/v1')" --judge 'vllm serve m --port 9000' --judge-gpus 1"""
CASES = {
    "slurm_one.txt": "slurm scenes --max-hours 1.5 --overlap --out out",
    "slurm_two.txt": f"slurm scenes {SHARED} {ASKS} --partition gpu --setup 'source .venv/bin/activate'",
    "kubernetes_one.txt": "kubernetes scenes --image limner:1 --volume shared --seed 3 --out out",
    "kubernetes_two.txt": f"kubernetes scenes {SHARED} {MODEL} --image limner:1 --volume shared",
}
STANDS_IN = """#!/bin/bash
echo "$(basename "$0") $* [$CUDA_VISIBLE_DEVICES]" >> told.txt
"""
SRUN = """while [ "$1" != bash ]; do shift; done
exec "$@"
"""
SCONTROL = """if [ "$1" = show ]; then printf 'n7\\nn8\\n'; fi
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(name: str) -> str:
    assert main(["launch", *shlex.split(CASES[name])]) == 0
    return Path("out").read_text()


@pytest.mark.parametrize("name", CASES)
def test_what_is_written(name: str) -> None:
    compare(f"launch_{name}", written(name))
    assert main(["launch", *shlex.split(CASES[name])]) == 2  # nothing is written over


def stand_in(commands: dict[str, str]) -> dict[str, str]:
    """Make the commands, each of which says what it was told and then does some more; return the surroundings."""
    Path("bin").mkdir()
    for command, more in commands.items():
        path = Path("bin") / command
        path.write_text(STANDS_IN + more)
        path.chmod(0o755)
    job = {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "8", "SLURM_JOB_NODELIST": "n[7-8]"}
    gpus = {"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,9"}
    return {**job, **gpus, "PATH": f"{Path('bin').absolute()}:{os.environ['PATH']}"}


def told() -> list[str]:
    return Path("told.txt").read_text().splitlines()


FURTHER = "mkdir -p runs/scenes-0/checkpoints; touch runs/scenes-0/checkpoints/00000009-0123456789abcdef.pt; exit 1\n"


@pytest.mark.parametrize(
    ("limner", "restarts", "code", "queued"),
    [("", "0", 0, False), (FURTHER, "0", 1, True), (FURTHER, "8", 1, True), (FURTHER, "9", 1, False)]
    + [("exit 2\n", "0", 1, False)],
)
def test_a_session_is_followed_by_another_if_it_got_further(
    limner: str, restarts: str, code: int, queued: bool
) -> None:
    written("slurm_one.txt")
    known = Path("runs/scenes-0/checkpoints/00000008-0123456789abcdef.pt")
    known.parent.mkdir(parents=True)
    known.touch()
    around = stand_in({"srun": SRUN, "scontrol": SCONTROL, "limner": limner}) | {"SLURM_RESTART_COUNT": restarts}
    done = subprocess.run(["bash", "out"], env=around, capture_output=True, text=True)
    assert done.returncode == code
    trained = "limner train scenes --max_hours=1.5 --overlap --device cuda --resume [0,1,2,3,4,5,6,9]"
    assert told()[1:] == [trained, *(["scontrol requeue 7 [0,1,2,3,4,5,6,9]"] if queued else [])]
    assert bool(done.stderr) == (code == 1 and not queued)


def test_a_session_that_its_time_limit_would_end_is_queued_again() -> None:
    written("slurm_one.txt")
    further = FURTHER.replace("exit 1", "exec sleep 60")
    around = stand_in({"srun": SRUN, "scontrol": SCONTROL, "limner": further})
    process = subprocess.Popen(["bash", "out"], env=around, start_new_session=True)
    until = time.monotonic() + 20
    while not list(Path().glob("runs/*/checkpoints/*")) and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGUSR1)
    assert process.wait(20) == 1 and told()[-1].startswith("scontrol requeue 7")
    os.killpg(process.pid, signal.SIGKILL)


def test_a_node_has_its_judge_on_gpus_of_its_own() -> None:
    """Of eight GPUs the judge has the last two; the run begins once it listens, and it ends with the run."""
    written("slurm_two.txt")
    (activate := Path(".venv/bin/activate")).parent.mkdir(parents=True)
    activate.touch()
    python = "[ -e listening ]\n"
    limner = "sleep 0.2; touch listening; exec sleep 60\n"
    around = stand_in({"srun": SRUN, "scontrol": SCONTROL, "limner": limner, "python": python, "torchrun": ""})
    assert subprocess.run(["bash", "out"], env=around, timeout=30).returncode == 0
    said = told()
    assert 'limner serve-reward ocr(metric="exact") --port 8000 [6,9]' in said
    assert said[-1] == (
        "torchrun --nnodes 2 --nproc-per-node 6 --rdzv-backend c10d --rdzv-id 7-0 --rdzv-endpoint n7:29400 -m limner "
        "train scenes --out runs/a run --reward remote(url='http://127.0.0.1:8000') --prompts_per_step=48 "
        "--max_hours=12 --device cuda --resume [0,1,2,3,4,5]"
    )


def test_pods_find_one_another_and_their_judge() -> None:
    service, job = yaml.safe_load_all(written("kubernetes_two.txt"))
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert service["metadata"]["name"] == job["metadata"]["name"] == pod["subdomain"] == "limner-scenes"
    assert (spec["completions"], spec["parallelism"], spec["backoffLimit"]) == (2, 2, 18)
    assert pod["activeDeadlineSeconds"] == 12 * 3600 + 900
    (judge,), (run,) = pod["initContainers"], pod["containers"]
    assert judge["resources"]["limits"] == {"nvidia.com/gpu": 1} and run["resources"]["limits"] == {"nvidia.com/gpu": 7}
    around = stand_in({"torchrun": "", "vllm": ""})
    for each in (judge, run):
        assert subprocess.run(each["command"], env=around).returncode == 0
    served, trained = told()
    assert served.startswith("vllm serve m --port 9000")
    assert "--nproc-per-node 7" in trained and "--rdzv-endpoint limner-scenes-0.limner-scenes:29400" in trained
