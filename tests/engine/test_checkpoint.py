import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from limner.core.errors import RunError, UserError
from limner.engine import checkpoint

STATE = {"weights": {"a": torch.arange(5000.0)}, "step": 7, "lr": 0.1, "name": "x", "rows": [1, 2]}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_loaded_is_what_was_saved(tmp_path):
    path = checkpoint.save(tmp_path / "checkpoints", 7, STATE)
    assert path == checkpoint.latest(tmp_path / "checkpoints")
    state = checkpoint.load(path)
    assert torch.equal(state["weights"].pop("a"), STATE["weights"]["a"])
    assert state == {**STATE, "weights": {}}


def test_the_last_ones_are_kept_and_no_other_file_is_touched(tmp_path):
    (tmp_path / "notes.pt").write_text("mine")
    for step in (1, 2, 30, 400_000_000):
        last = checkpoint.save(tmp_path, step, {"step": step}, keep=2)
    assert checkpoint.latest(tmp_path) == last
    assert [name.partition("-")[0] for name in names(tmp_path)] == ["00000030", "400000000", "notes.pt"]


def test_no_folder_has_no_checkpoint(tmp_path):
    assert checkpoint.latest(tmp_path / "nowhere") is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_checkpoint_is_passed_over_and_written_anew(tmp_path, damage):
    first, second = (checkpoint.save(tmp_path, step, {**STATE, "step": step}) for step in (1, 2))
    data = bytearray(second.read_bytes())
    data[len(data) // 2] ^= 1
    second.write_bytes({"cut": data[:-1], "flipped": data, "empty": b""}[damage])
    (tmp_path / "00000003.tmp").write_bytes(b"half")
    assert checkpoint.latest(tmp_path) == first
    with pytest.raises(UserError, match="not a whole checkpoint"):
        checkpoint.load(second)
    again = checkpoint.save(tmp_path, 2, {**STATE, "step": 22}, keep=2)
    assert checkpoint.latest(tmp_path) == again
    assert names(tmp_path) == [first.name, again.name]


def test_what_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "model.pt").write_text("?")
    for path in (tmp_path / "model.pt", tmp_path / "00000001-0123456789abcdef.pt", tmp_path):
        with pytest.raises(UserError, match="not a whole checkpoint"):
            checkpoint.load(path)


@pytest.mark.parametrize("room", [0, 700, 60_000])
def test_a_full_disk_leaves_the_checkpoints_before_and_no_litter(tmp_path, room):
    first = checkpoint.save(tmp_path, 1, STATE)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(RunError, match="step 2 not written.*File too large.*earlier ones stand"):
            checkpoint.save(tmp_path, 2, {"a": torch.zeros(40_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == [first.name]
    assert checkpoint.load(first)["step"] == 7


def test_a_folder_that_cannot_be_made_is_an_error_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="not written"):
        checkpoint.save(tmp_path / "file" / "checkpoints", 1, STATE)


WRITER = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from limner.engine import checkpoint

torch.set_num_threads(1)
folder, rounds = Path(sys.argv[1]), int(sys.argv[2])

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def state(step):
    return {"step": step, "weights": {str(i): torch.full((20_000,), float(step)) for i in range(10)}}

def killed(seconds, where):
    pid = os.fork()
    if pid == 0:
        if where == "write":
            real = checkpoint._Hashed.write
            checkpoint._Hashed.write = lambda self, data: die() if self.file.tell() > 500_000 else real(self, data)
        elif where == "folder":
            os.open = die
        elif where:
            setattr(os, where, die)
        step = done()
        while True:
            step += 1
            checkpoint.save(folder, step, state(step))
    if not where:
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL

def done():
    path = checkpoint.latest(folder)
    if path is None:
        return 0
    found = checkpoint.load(path)
    assert all(torch.equal(x, torch.full((20_000,), float(found["step"]))) for x in found["weights"].values())
    return found["step"]

inside = last = 0
for where in [""] * rounds + ["write", "fsync", "replace", "folder", ""]:
    killed(random.Random(str(inside) + str(last)).uniform(0.02, 0.12), where)
    left = list(folder.glob("*.tmp"))
    if where in ("write", "fsync", "replace"):
        assert left and done() == last, where
    if where == "folder":
        assert not left and done() == last + 1
    inside += bool(left)
    assert done() >= last
    last = done()
print(inside, last)
"""


def test_a_process_killed_inside_a_write_leaves_the_last_whole_checkpoint(tmp_path):
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", WRITER, str(tmp_path), "8"],
        env={**os.environ, "PYTHONPATH": str(root / "src")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    inside, last = map(int, result.stdout.split())
    assert inside >= 4
    assert last >= 5
