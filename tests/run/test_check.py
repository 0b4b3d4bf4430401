"""What passes `limner check` does not die later of the same input: it tries a prompt of every kind, and memory."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import limner
from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.cli import main
from limner.core.protocols import Context
from limner.core.quiet import no_bars
from limner.core.types import Scored, Vocabulary
from limner.engine.memory import peak_memory_mib
from limner.models.sd3.build import SD3Size, build
from limner.recipes.yaml import to_yaml
from limner.training.config import Evaluation
from run.miniature import WORDS, Miniature
from run.process import CONTEXT, run

JUDGES = """
import torch


def wants_count(media, prompts):
    return [float(prompt.meta["count"]) + i % 2 for i, prompt in enumerate(prompts)]


def light(media, prompts):
    return media.frames().mean((1, 2, 3, 4))


def half(media, prompts):
    scores = light(media, prompts)
    scores[::2] = torch.inf
    return scores
"""
KNOWN = '{"prompt": "two red stars", "count": 2}\n{"prompt": "a blue circle", "count": 1}\n'

Check = Callable[..., tuple[int, str]]


@pytest.fixture
def check(
    miniature: Miniature, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Check:
    """Run `limner check` on files of these names and contents; return its code and what it printed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(to_yaml(miniature.config(Path("run"))))
    (tmp_path / "judges.py").write_text(JUDGES)

    def checked(arguments: str, **files: str) -> tuple[int, str]:
        for name, text in files.items():
            (tmp_path / f"{name}.jsonl").write_text(text)
        try:
            code = main(["check", "recipe.yaml", *arguments.split()])
        except KeyError as error:
            code = repr(error)
        printed = capsys.readouterr()
        assert not (tmp_path / "run").exists()
        return code, printed.out + printed.err

    return checked


def test_a_reward_that_reads_what_held_out_prompts_lack(check: Check) -> None:
    """The first has it, the second does not, and the training prompts all do."""
    code, printed = check(
        "--reward judges.py:wants_count --prompts known.jsonl --evaluation.prompts held.jsonl",
        known=KNOWN,
        held='{"prompt": "two red stars", "count": 3}\n{"prompt": "a blue circle"}\n',
    )
    assert code != 0 and "count" in f"{code}{printed}"


@pytest.mark.parametrize("micro_batch", [4, 8])
def test_a_reward_that_reads_what_some_prompt_lacks(check: Check, micro_batch: int) -> None:
    """Whether a sample of its kind is drawn in the dry run, of two groups of four, or only judged."""
    code, printed = check(
        f"--reward judges.py:wants_count --prompts known.jsonl --micro_batch {micro_batch}",
        known=30 * KNOWN + '{"prompt": "a blue star", "count": 1, "category": "odd"}\n{"prompt": "one green star"}\n',
    )
    assert code != 0 and "count" in f"{code}{printed}"


@pytest.mark.parametrize("category", ['["count", "colour"]', "null", "1", '"overall"', '{"a": 1}', "true"])
def test_a_category_is_any_json(check: Check, category: str) -> None:
    held = f'{{"prompt": "two red stars", "category": {category}}}\n{{"prompt": "a blue circle", "category": "one"}}\n'
    code, printed = check("--prompts held.jsonl --evaluation.prompts held.jsonl", held=held)
    counted = "one 1, 1 without a category" if category == "null" else f"{category} 1, one 1"
    assert code == 0 and f"prompts      2: {counted}, in held.jsonl\n" in printed
    assert f"held out     2: {counted}, in held.jsonl; 2 seeds each\n" in printed


def test_without_held_out_prompts_a_curve_is_not_drawn(
    check: Check, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, printed = check("--evaluation.prompts= --evaluation.every 1")
    [time] = [line for line in printed.splitlines() if line.startswith("time ")]
    assert code == 0 and "held out     none: nothing is evaluated" in printed and "evaluation" not in time
    assert main(["train", "recipe.yaml", "--evaluation.prompts=", "--evaluation.every", "1", "--quiet"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 3 and not any(key.startswith("heldout") for line in lines for key in line)


def test_samples_that_teach_nothing_are_counted(check: Check) -> None:
    code, printed = check("--reward judges.py:half")
    assert code == 0 and "note         reward 'half' did not judge 4 of 8 samples: they teach nothing\n" in printed


def test_a_reward_that_cancels_itself(check: Check) -> None:
    code, printed = check("--reward jpeg_size-jpeg_size")
    assert code == 0 and "note         the reward as a whole gave all samples of a prompt the same" in printed


def test_an_evaluation_reward_that_compares(check: Check) -> None:
    code, printed = check("--evaluation.prompts held.jsonl --evaluation.reward rank(judges.py:light)", held=KNOWN)
    assert code == 2 and "compares a sample with its group" in printed and printed.count("\n") == 1


def test_an_evaluation_reward_without_its_weights(check: Check) -> None:
    """No network is there, and the folder with the weights is empty."""
    code, printed = check("--evaluation.prompts held.jsonl --evaluation.reward pickscore", held=KNOWN)
    assert code == 2 and "pickscore" in printed.lower() and printed.count("\n") == 1, printed


def test_a_picture_of_the_anchor_that_is_cut(check: Check, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.effect_noise((64, 64), 90).save(tmp_path / "pictures" / "cut.jpg")
    whole = (tmp_path / "pictures" / "cut.jpg").read_bytes()
    (tmp_path / "pictures" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "pictures" / "metadata.jsonl").write_text('{"file_name": "cut.jpg", "prompt": "a star"}\n')
    code, printed = check("--anchor.data pictures --anchor.weight 0.1")
    assert code == 2 and "cut.jpg" in printed and printed.count("\n") == 1


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_weights_that_are_no_numbers(check: Check, miniature: Miniature, tmp_path: Path, part: str) -> None:
    base = shutil.copytree(miniature.model, tmp_path / "base")
    (file,) = (base / part).glob("*.safetensors")
    weights = load_file(file)
    name = next(key for key in sorted(weights) if key.startswith("decoder") or part == "transformer")
    weights[name].view(-1)[0] = torch.nan
    save_file(weights, file, {"format": "pt"})
    code, printed = check(f"--model.path {base}")
    assert code == 2 and printed.count("\n") == 1, printed
    assert (f"weight {name} of its transformer" if part == "transformer" else "no sample is finite") in printed


@pytest.fixture
def larger(tmp_path: Path) -> Path:
    """A base whose weights take much more than what is computed with them."""
    size = {"layers": 4, "heads": 8, "latent_size": 4, "latent_channels": 4, "autoencoder_channels": (8, 8, 8, 8)}
    with no_bars():
        build(SD3Size(Vocabulary(WORDS), **size, text_width=32, text_layers=1, shift=1.0)).save_pretrained(
            tmp_path / "l"
        )
    return tmp_path / "l"


def test_the_peak_that_is_predicted_is_the_run_s(larger: Path, miniature: Miniature, tmp_path: Path) -> None:
    """Within a quarter of what the run adds to a process that has only loaded the libraries."""
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "run"
    recipe.write_text(to_yaml(miniature.config(out, evaluation=Evaluation(str(miniature.prompts), seeds=2), steps=2)))
    arguments = [str(recipe), "--model.path", str(larger), "--model.train", "Full"]
    code, lines = run(["check", *arguments], tmp_path / "check")
    (told,) = [float(found[1].replace(",", "")) for line in lines if (found := re.search("peak about (.*?) MiB", line))]
    assert code == 0 and run(["train", *arguments, "--quiet"], tmp_path / "train")[0] == 0
    peak = json.loads((out / "summary.json").read_text())["peak_memory_mib"]
    assert abs(told - peak) < 0.25 * (peak - idle())


def test_what_an_algorithm_learns_beside_the_model_is_tried_too(
    miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, with a memory of its own, and each iteration takes as long: 0.2 s in each of three."""
    memories: list[dict[str, Any]] = []
    advantage = DiffusionNFT.advantage

    def slow(self: DiffusionNFT, scored: Scored, context: Context) -> Any:
        memories.append(context.memory)
        context.memory["critic"] = torch.zeros(1)
        time.sleep(0.2)
        return advantage(self, scored, context)

    monkeypatch.setattr(DiffusionNFT, "advantage", slow)
    assert limner.check(miniature.config(tmp_path / "run")).seconds["update"] > 0.6
    assert len(memories) == 1


def idle() -> float:
    """Return the peak, in MiB, of a process like those of `run` that does nothing."""
    with CONTEXT.Pool(1) as pool:
        return pool.apply(peak_memory_mib, (torch.device("cpu"),))


def test_settings_that_an_algorithm_does_not_read_are_named(check: Check) -> None:
    """The whole kind: what makes its own updates is told none of the optimizer's, but for the average of weights."""
    own = "--algorithm TRPO --sampler.dynamics FlowSDE"
    code, said = check(own)
    assert code == 0
    (line,) = [line for line in said.splitlines() if "own updates" in line]
    assert line.startswith("note         TRPO makes its own updates") and line.endswith(" are idle")
    for name in ("kind", "lr", "betas", "weight_decay", "warmup", "schedule", "max_grad_norm"):
        assert f"optimizer.{name}" in line
    assert "optimizer.ema" not in line
    assert "own updates" not in check("")[1]
