"""A run folder is of one process, one configuration and one set of inputs, and says by name what is not the same."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from PIL import Image

from limner.claim import LOCK, held, inputs
from limner.cli import main
from limner.core.errors import UserError
from limner.core.types import Prompt
from limner.recipes.yaml import to_yaml
from limner.report.metrics import read
from limner.training.config import Evaluation
from run.miniature import Miniature, last_checkpoint

REWARDS = "def light(media, prompts):\n    return {sign}media.frames().mean((1, 2, 3, 4))\n"

Train = Callable[..., tuple[int, list[str]]]


def lay(place: Path, miniature: Miniature) -> None:
    """Write a recipe and the files that it names."""
    (place / "mine.txt").write_text("two red stars\na blue circle\n")
    (place / "held.txt").write_text("one green star\n")
    (place / "mine.py").write_text(REWARDS.format(sign=""))
    config = miniature.config(Path("run"), prompts="mine.txt", evaluation=Evaluation("held.txt", seeds=1), steps=1)
    (place / "recipe.yaml").write_text(to_yaml(config).replace(config.reward, "mine.py:light"))


@pytest.fixture(scope="module")
def ended(miniature: Miniature, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of them that has ended; tests work on copies."""
    place = tmp_path_factory.mktemp("ended")
    lay(place, miniature)
    with contextlib.chdir(place):
        assert main(["train", "recipe.yaml", "--quiet"]) == 0
    return place / "run"


@pytest.fixture
def train(
    miniature: Miniature, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Train:
    """Run `limner train` on files in the folder it works in; return its code and what it said."""
    monkeypatch.chdir(tmp_path)
    lay(tmp_path, miniature)

    def trained(*arguments: str) -> tuple[int, list[str]]:
        code = main(["train", "recipe.yaml", "--quiet", *arguments])
        return code, capsys.readouterr().err.splitlines()

    return trained


@pytest.fixture
def retrain(train: Train, ended: Path, tmp_path: Path) -> Train:
    """The same where such a run has ended already."""
    shutil.copytree(ended, tmp_path / "run")
    return train


def test_what_may_change(retrain: Train, tmp_path: Path) -> None:
    """More iterations in smaller passes at another rate: it goes on, and says so; fewer than were done are refused."""
    weights = last_checkpoint(tmp_path / "run")["weights"]["policy"]
    more = ["--resume", "--steps", "2", "--micro_batch", "4", "--optimizer.lr", "5e-3"]
    code, said = retrain(*more)
    assert code == 0 and "resuming at iteration 1" in said
    assert [f"note: resumed with {key}" for key in ("steps 2 instead of 1", "micro_batch 4 instead of 8")] == [
        line for line in said if line.startswith("note: resumed with") and "lr" not in line
    ]
    assert [line["step"] for line in read(tmp_path / "run")] == [0, 1]
    after = last_checkpoint(tmp_path / "run")
    assert after["state"]["iteration"] == 2
    assert any(not after["weights"]["policy"][name].equal(tensor) for name, tensor in weights.items())
    assert any(
        "steps 2 instead of 1" in n for n in json.loads((tmp_path / "run" / "summary.json").read_text())["notices"]
    )
    code, said = retrain("--resume", "--micro_batch", "4", "--optimizer.lr", "5e-3")
    assert code == 2 and said[-1] == "limner: run has done 2 iterations already, and steps is 1"


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("mine.py", REWARDS.format(sign="-"), "code mine.py changed"),
        ("mine.txt", "two red stars\na blue star\n", "prompts mine.txt changed"),
        ("held.txt", "one green circle\n", "held-out prompts held.txt changed"),
    ],
)
def test_what_has_changed_is_named(retrain: Train, tmp_path: Path, name: str, content: str, named: str) -> None:
    """A flipped sign, another prompt: refused; or accepted, and then the base is measured anew, and all say so."""
    before = json.loads((tmp_path / "run/samples/before-sampler/rewards.json").read_text())
    (tmp_path / name).write_text(content)
    code, said = retrain("--resume")
    assert code == 2 and named in said[-1] and "--accept-changes" in said[-1]
    assert retrain("--resume", "--accept-changes")[0] == 0
    again = json.loads((tmp_path / "run/samples/before-sampler/rewards.json").read_text())
    assert (again == before) == (name == "mine.txt")
    assert retrain("--resume")[0] == 0
    notices = json.loads((tmp_path / "run" / "summary.json").read_text())["notices"]
    assert [n for n in notices if "resumed with other" in n] == [f"resumed with other {named.removesuffix(' changed')}"]


def test_a_comment_in_a_prompt_file_is_no_change(retrain: Train, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("# the same\ntwo red stars\n\na blue circle")
    assert retrain("--resume")[0] == 0


def test_a_run_that_failed_before_its_first_iteration(retrain: Train, tmp_path: Path) -> None:
    """It is begun anew, by a corrected configuration or with a corrected file; what was measured is not taken over."""
    run = tmp_path / "run"
    for name in ("metrics.jsonl", "summary.json"):
        (run / name).unlink()
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    (tmp_path / "mine.py").write_text(REWARDS.format(sign="-"))
    rewards = run / "samples/before-sampler/rewards.json"
    before = json.loads(rewards.read_text())["rewards"][0]["reward"]
    code, said = retrain("--seed", "0", "--group_size", "2")
    assert code == 0, said
    assert json.loads(rewards.read_text())["rewards"][0]["reward"] == [-before[0]]
    assert [line["step"] for line in read(run)] == [0]


def test_nothing_to_resume_is_said(train: Train) -> None:
    code, said = train("--resume")
    assert code == 0 and "nothing to resume in run: it begins at iteration 0" in said


def test_a_folder_is_of_one_process(retrain: Train, tmp_path: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "run").rglob("*") if path.name != LOCK)
    with held(tmp_path / "run"):
        code, said = retrain("--resume")
        assert code == 2 and said[-1].startswith("limner: another process is writing run: wait until it ends")
        with pytest.raises(UserError, match="another process"), held(tmp_path / "run"):
            pass
    assert before == sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "run").rglob("*") if p.name != LOCK)


def test_the_lock_of_a_dead_process_holds_nobody(tmp_path: Path) -> None:
    reader, writer = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=lock_and_tell, args=(tmp_path / LOCK, writer))
    process.start()
    assert reader.recv() == "locked" and process.pid is not None
    with pytest.raises(UserError, match="another process"), held(tmp_path):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with held(tmp_path):
        assert (tmp_path / LOCK).exists()


def lock_and_tell(path: Path, writer: object) -> None:
    lock = FileLock(path)
    lock.acquire()
    writer.send("locked")  # type: ignore[attr-defined]
    signal.pause()


def test_what_a_reward_imports_beside_it_counts(train: Train, tmp_path: Path) -> None:
    """Also what that imports, in a package, within a function; not what is elsewhere."""
    (tmp_path / "mine.py").write_text("import torch, helper\n" + REWARDS.format(sign="helper.SIGN * "))
    (tmp_path / "helper.py").write_text("SIGN = 1\n\n\ndef late():\n    from parts import sign\n")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").write_text("from .sign import SIGN\n")
    (tmp_path / "parts" / "sign.py").write_text("SIGN = 1\n")
    assert train()[0] == 0
    known = json.loads((tmp_path / "run/manifest.json").read_text())["sha256"]["inputs"]
    code = {name.removeprefix("code ") for name in known if name.startswith("code ")}
    assert code == {"mine.py", "helper.py", "parts/__init__.py", "parts/sign.py"}
    (tmp_path / "parts" / "sign.py").write_text("SIGN = -1\n")
    code, said = train("--resume")
    assert code == 2 and "code parts/sign.py changed" in said[-1]


def test_pictures_that_changed_are_named(train: Train, tmp_path: Path) -> None:
    """A caption, or a picture of another size; what is beside them in the folder counts as little as it is read."""
    folder = tmp_path / "anchors"
    folder.mkdir()
    Image.new("RGB", (8, 8), "red").save(folder / "a.png")
    (folder / "metadata.jsonl").write_text('{"file_name": "a.png", "prompt": "two red stars"}\n')
    arguments = ["--anchor.data", "anchors", "--anchor.weight", "0.1", "--anchor.batch", "2"]
    assert train(*arguments)[0] == 0
    (folder / "votes.db").write_text("")
    assert train(*arguments, "--resume")[0] == 0
    for name, content in (("metadata.jsonl", '{"file_name": "a.png", "prompt": "a blue star"}'), ("a.png", None)):
        before = (folder / name).read_bytes()
        if content is None:
            Image.effect_noise((8, 8), 50).save(folder / name)
        else:
            (folder / name).write_text(content)
        code, said = train(*arguments, "--resume")
        assert code == 2 and "pictures anchors changed since" in said[-1]
        (folder / name).write_bytes(before)


def test_pictures_that_samples_are_held_against_are_an_input(tmp_path: Path, miniature: Miniature) -> None:
    """Those of a folder; a world's are made, and not read."""
    (tmp_path / "liked").mkdir()
    table = tmp_path / "liked" / "metadata.jsonl"
    table.write_text('{"file_name": "a.png", "prompt": "two red stars"}\n')
    held_against = f"adversary(contrast, data='{tmp_path / 'liked'}') + closeness(contrast, data='scenes')"
    config = replace(miniature.config(tmp_path / "run"), reward=held_against)
    before = inputs(config, [], [])
    assert [name for name in before if name.startswith("pictures")] == [f"pictures {tmp_path / 'liked'}"]
    table.write_text('{"file_name": "a.png", "prompt": "a blue star"}\n')
    assert inputs(config, [], []) != before


def test_a_clip_that_is_compared_with_is_an_input(tmp_path: Path, miniature: Miniature) -> None:
    """Wherever it lies: what is in it counts."""
    config, files = miniature.config(tmp_path / "run"), [tmp_path / "right.webp", tmp_path / "moved.webp"]
    for file in files:
        file.write_bytes(b"one")
    here, moved = (inputs(config, [Prompt("a", {"n": 1, "reference": str(file)})], []) for file in files)
    files[0].write_bytes(b"two")
    assert here == moved != inputs(config, [Prompt("a", {"n": 1, "reference": str(files[0])})], [])
    assert here != inputs(config, [Prompt("a", {"n": 1, "reference": "a cat"})], [])
