"""What cannot be carried out is one line and exit code 2, before anything is written."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from limner.cli import main
from limner.recipes.yaml import to_yaml
from run.miniature import Miniature

FILES = {
    "empty.txt": b"\n# nothing\n",
    "binary.txt": b"\xff\xfe\x00",
    "broken.jsonl": b'{"prompt": "a star"}\n{"prompt": \n',
    "prompts.csv": b"a star\n",
    "model/notes.txt": b"no model",
    "other/model_index.json": b'{"_class_name": "FluxPipeline"}',
    "full/notes.txt": b"mine",
    "broken.py": b"import nothing_of_this_name\n",
    "norecipe.py": b"x = 1\n",
    "list.yaml": b"- 1\n",
    "odd.yaml": b"name: x\nstesp: 3\n",
    "file": b"",
}

BAD = {
    "--group-size 1": "group_size is 1, but DiffusionNFT compares",
    "--prompts-per-step 0": "RunConfig: prompts_per_step must be at least 1, got 0",
    "--sampler.steps 0": "Sampler: steps must be at least 1, got 0",
    "--sampler.splits 1,1 --group_size 4": "sampler.splits (1, 1) must rise, from 0 on, to 2 at most",
    "--sampler.splits 0,1 --group_size 4": "sampler.splits divides a group at stochastic steps",
    "--sampler.splits 0,1 --sampler.dynamics FlowSDE --group_size 8": "sampler.splits (0, 1) divides a group into 4",
    "--algorithm FlowGRPO --algorithm.scale depth --sampler.dynamics FlowSDE": "FlowGRPO with algorithm.scale depth",
    "--sampler.window 5": "sampler.window 5: of 4 steps at most 3 are stochastic",
    "--optimizer.ema 1": "Optimizer: ema must be at least 0 and below 1, got 1.0",
    "--optimizer.max_grad_norm 0": "Optimizer: max_grad_norm must be above 0, got 0.0",
    "--optimizer.max_grad_norm -1": "Optimizer: max_grad_norm must be above 0, got -1.0",
    "--optimizer.betas 2,3": "Optimizer: betas must be at least 0 and below 1, got (2.0, 3.0)",
    "--optimizer.weight_decay -1": "Optimizer: weight_decay must be at least 0 and finite, got -1.0",
    "--sampler.guidance inf": "Sampler: guidance must be finite, got inf",
    "--evaluation.guidance -inf": "Evaluation: guidance must be finite, got -inf",
    "--anchor.weight inf": "DataAnchor: weight must be at least 0 and finite, got inf",
    "--evaluation.ode_steps -3": "Evaluation: ode_steps must be at least 0, got -3",
    "--precision.dtype float8": "--precision.dtype cannot be 'float8'",
    "--algorithm FlowGRPO": "FlowGRPO scores stochastic steps, but the sampler's dynamics EulerODE",
    "--algorithm.num-times 9": "num_times 9 exceeds the sampler's 3 times",
    "--algorithm.beta -1": "DiffusionNFT: beta must be above 0, got -1.0",
    "--device quantum": "unknown device 'quantum'; use auto",
    "--prompts nowhere.txt": "prompts nowhere.txt: no such file",
    "--prompts empty.txt": "prompts empty.txt: the file holds no prompt",
    "--prompts binary.txt": "prompts binary.txt: not UTF-8 text",
    "--prompts broken.jsonl": "prompts broken.jsonl, line 2: not JSON",
    "--prompts prompts.csv": "prompts prompts.csv: unknown suffix",
    "--prompts model": "prompts model: unknown suffix",
    "--prompts=": "no prompts: give --prompts FILE",
    "--prompts scenes:trian": "prompts 'scenes:trian': unknown split; did you mean 'train'?",
    "--evaluation.prompts nowhere.txt": "prompts nowhere.txt: no such file",
    "--evaluation.reward jpg_size": "unknown reward 'jpg_size'; did you mean 'jpeg_size'?",
    "--reward jpg_size": "unknown reward 'jpg_size'; did you mean 'jpeg_size'?",
    "--reward jpeg_size:2": "reward 'jpeg_size:2': this is no expression such as 0.7 * scenes + 0.3 * jpeg_size; ",
    "--reward '1e999 * jpeg_size'": "reward '1e999 * jpeg_size': numbers must be finite",
    "--reward jpeg_size(quality=3)": "reward jpeg_size(quality=3): jpeg_size has no settings",
    "--reward nowhere.py:f": "reward 'nowhere.py:f': no such file",
    "--reward {rewards}:rednes": "reward '{rewards}:rednes': rewards.py has no 'rednes'; did you mean 'red",
    "--reward broken.py:f": "reward 'broken.py:f': broken.py does not import: ModuleNotFoundError at line 1",
    "--reward {rewards}:pairs": "reward 'pairs': expected one number a sample, shape (8,), got float32 of shape (8, 2)",
    "--model.path nowhere": "model: nowhere is not a folder (it does not exist)",
    "--model.path file": "model: file is not a folder (it is a file)",
    "--model.path model": "model: model is not a pipeline folder (it has no model_index.json, it holds notes.txt)",
    "--model.path other": "model: other is a FluxPipeline",
    "--model.kind sd4": "--model.kind cannot be 'sd4'; did you mean 'sd'?",
    "--model.settings.max-sequence-length 1000": "model: max_sequence_length is 1000",
    "--model.train.targets attn.to_x": "LoRA target 'attn.to_x' is no linear layer",
    "--model.train.rank 0": "Lora: rank must be at least 1, got 0",
    "--out full": "full exists and is no run folder",
    "--out file": "file exists and is no run folder",
    "--out file/below": "file/below cannot be made (Not a directory)",
}

RECIPES = {
    "norecipe.py": "recipe norecipe.py: the file has no function recipe()",
    "list.yaml": "list.yaml is not a run's configuration",
    "odd.yaml": "odd.yaml: unknown key stesp; the nearest known key is steps",
}


@pytest.fixture(scope="module")
def place(miniature: Miniature, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sound recipe, and files that are not."""
    folder = tmp_path_factory.mktemp("place")
    for name, content in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "recipe.yaml").write_text(to_yaml(miniature.config(Path("run"))))
    return folder


@pytest.fixture(autouse=True)
def nothing_is_written(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(place)
    before = snapshot(place)
    yield
    assert snapshot(place) == before


def snapshot(folder: Path) -> list[tuple[str, int]]:
    paths = (path for path in folder.rglob("*") if "__pycache__" not in path.parts)
    return sorted((str(path), os.stat(path).st_mtime_ns) for path in paths)


@pytest.mark.parametrize("arguments", BAD)
def test_bad_values(arguments: str, miniature: Miniature, capsys: pytest.CaptureFixture[str]) -> None:
    rewards = str(miniature.folder / "rewards.py")
    words = [word.format(rewards=rewards) for word in shlex.split(arguments)]
    assert main(["train", "recipe.yaml", "--quiet", *words]) == 2
    require_one_line(capsys, BAD[arguments].format(rewards=rewards))


@pytest.mark.parametrize("recipe", RECIPES)
def test_bad_recipes(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", recipe]) == 2
    require_one_line(capsys, RECIPES[recipe])


def require_one_line(capsys: pytest.CaptureFixture[str], beginning: str) -> None:
    printed = capsys.readouterr()
    assert printed.err.startswith(f"limner: {beginning}"), printed.err
    assert printed.err.count("\n") == 1 and printed.err.endswith("\n") and not printed.out


def test_a_run_is_not_written_over(miniature: Miniature, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither by accident, nor by resuming it under another configuration."""
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "run"
    recipe.write_text(to_yaml(miniature.config(out, steps=1)))
    assert main(["train", str(recipe), "--quiet"]) == 0
    before = snapshot(tmp_path)
    capsys.readouterr()
    assert main(["train", str(recipe), "--quiet"]) == 2
    require_one_line(capsys, f"{out} holds a run already: continue it with --resume, or choose another folder")
    assert main(["train", str(recipe), "--quiet", "--resume", "--steps", "2"]) == 2
    require_one_line(capsys, f"{out} holds a run of another configuration; resume it with: limner train {out}")
    assert snapshot(tmp_path) == before


def test_check_says_what_it_found_and_writes_nothing(
    miniature: Miniature, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = "--sampler.dynamics FlowSDE --algorithm FlowGRPO --precision.activation-checkpointing true"
    assert main(["check", "recipe.yaml", *flow.split()]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == "recipe miniature, seed 0".split()
    assert lines[1].startswith("prompts      ")
    assert "2 prompts x 4 samples = 8 samples, 24 decisions or noised samples to learn from, in passes of 8" in lines[2]
    assert "3 iterations, 24 samples" in lines[3]
    assert any(line.startswith("reward       redness: ") and line.endswith(" on two samples") for line in lines)
    # 1e-4 nats per element were published for 65,536 elements; a latent here has 64.
    assert lines[-1].endswith("clip range 1.0e-01 and 1.0e-01 nats per latent element")
