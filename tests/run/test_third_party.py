"""What is not ours trains as what is: an algorithm, a generator of tokens, and a source of pairs, a file each.

A generator of clips stands in test_clips.py. Each is named on the command line, and nothing of limner knows it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

from architecture.source import ROOT
from limner.cli import main
from limner.core.media import Images
from limner.core.needs import Renoising
from limner.core.rng import Rng
from limner.core.types import Prompt
from limner.data.pairs import read_picture
from limner.objectives.matching import velocity_mse
from limner.recipes.yaml import to_yaml
from limner.report.metrics import read
from limner.run import Run, open_run
from limner.training.source import given
from run.miniature import Miniature

THERE = Path(__file__).parents[1] / "third_party"
LIGHT = "def light(media, prompts):\n    return media.frames().mean((1, 2, 3, 4))\n"


def train(miniature: Miniature, folder: Path, arguments: Sequence[str]) -> Path:
    """Run `limner train` on the miniature's recipe, and return the run's folder."""
    recipe, out = folder / "recipe.yaml", folder / "run"
    recipe.write_text(to_yaml(miniature.config(out)))
    assert main(["train", str(recipe), *arguments, "--quiet"]) == 0
    return out


def test_an_algorithm(miniature: Miniature, tmp_path: Path) -> None:
    """It moves the weights; the run is continued and reopened by the name it was given, by who trusts it."""
    name = f"{ROOT / 'examples' / 'my_algorithm.py'}:LeaveOneOut"
    out = train(miniature, tmp_path, ["--algorithm", name, "--sampler.dynamics", "FlowSDE"])
    lines = read(out)
    assert len(lines) == 3 and all(line["grad_norm"] > 0 and line["kl"] >= 0 for line in lines)
    assert main(["train", str(out / "config.yaml"), "--resume", "--quiet"]) == 0
    assert type(open_run(out, trust=True).config.algorithm).__name__ == "LeaveOneOut"
    assert main(["report", str(out)]) == 2


@pytest.mark.parametrize("name", ["my_reward", "my_algorithm", "my_model"])
def test_an_example_runs_as_it_says(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command in its docstring, on fewer and smaller iterations; it is thirty lines of code and a few."""
    text = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
    code = text.split('"""', 2)[2]
    assert len([line for line in code.splitlines() if line.strip()]) <= 45
    command = re.search(r"^    limner (train(?:[^\n\\]|\\\n)*)", text, re.MULTILINE)
    assert command is not None
    arguments = command[1].replace("\\\n", " ").split()
    small = "--steps 2 --prompts_per_step 2 --group_size 4 --sampler.steps 6 --evaluation.prompts= --quiet"
    monkeypatch.chdir(ROOT)
    out = tmp_path / "run"
    assert main([*arguments, *small.split(), "--evaluation.every", "0", "--out", str(out)]) == 0
    assert all(line["grad_norm"] > 0 for line in read(out))


def test_leave_one_out_by_hand() -> None:
    from types import SimpleNamespace

    from my_algorithm import LeaveOneOut

    valid = torch.tensor([True, True, False, True, True])
    rollout = SimpleNamespace(group=torch.tensor([0, 0, 0, 0, 1]))
    scored = SimpleNamespace(rollout=rollout, total=torch.tensor([1.0, 2.0, 9.0, 6.0, 5.0]), valid=valid)
    expected = [1 - (2 + 6) / 2, 2 - (1 + 6) / 2, 0.0, 6 - (1 + 2) / 2, 0.0]
    assert LeaveOneOut().advantage(scored, None).tolist() == pytest.approx(expected)


def test_a_generator_of_tokens(miniature: Miniature, tmp_path: Path) -> None:
    """It learns to write the lightest squares, by an algorithm that knows of none of it."""
    (tmp_path / "light.py").write_text(LIGHT)
    writer = THERE / "toy_writer.py"
    arguments = f"--model.kind {writer}:WriterSettings --model.train Full --sampler {writer}:Writing"
    arguments += " --algorithm FlowGRPO --algorithm.clip_low 0.2 --algorithm.clip_high 0.2 --algorithm.clip_elements 1"
    arguments += " --optimizer.lr 0.2 --steps 20 --group_size 16 --prompts_per_step 2 --checkpoint_every 20"
    arguments += f" --reward {tmp_path / 'light.py'}:light --evaluation.prompts {miniature.prompts}"
    out = train(miniature, tmp_path, arguments.split())
    rewards = [line["reward/mean"] for line in read(out)]
    assert 0.4 < rewards[0] < 0.6 and rewards[-1] > 0.9
    run = open_run(out, trust=True)
    assert run.sample("a blue circle", count=3).frames().mean() > 0.9
    assert "token by token" in (out / "export" / "README.md").read_text()
    heldout = json.loads((out / "summary.json").read_text())["heldout"]
    assert heldout["after"]["value"] > heldout["before"]["value"] + 0.3


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Red is preferred to blue, whatever the prompt asks for."""
    lines = []
    for i, prompt in enumerate(("two red stars", "a blue circle")):
        names = {key: str(tmp_path / f"{i}-{key}.png") for key in ("chosen", "rejected")}
        for key, colour in (("chosen", "red"), ("rejected", "blue")):
            Image.new("RGB", (32, 32), colour).save(names[key])
        lines.append(json.dumps({"prompt": prompt, **names}))
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    return tmp_path / "pairs.jsonl"


@pytest.mark.parametrize("algorithm", ["DGPO", "RewardWeighted --algorithm.weight best"])
def test_a_source_of_pairs(algorithm: str, pairs: Path, miniature: Miniature, tmp_path: Path) -> None:
    """No sample is drawn: what was preferred comes to be restored better, with DGPO against what was not."""
    arguments = f"--source {THERE / 'toy_pairs.py'}:Pairs --source.path {pairs} --algorithm {algorithm}"
    out = train(miniature, tmp_path, [*arguments.split(), "--steps", "12", "--checkpoint_every", "12"])
    lines = read(out)
    assert lines[-1]["reward/given"] == 0.5 and lines[-1]["grad_norm"] > 0
    run = open_run(out, trust=True)
    (chosen, rejected), (before, then) = (errors(run, pairs, role) for role in ("policy", "reference"))
    assert chosen < before if algorithm != "DGPO" else rejected - chosen > then - before


def errors(run: Run, pairs: Path, role: str) -> tuple[float, float]:
    """Return how badly what was preferred, and what was not, is restored under the weights of a role."""
    studio, policy = run.assembly.parts.studio, run.assembly.policy(role)  # type: ignore[arg-type]
    lines = [json.loads(line) for line in pairs.read_text().splitlines()]
    pictures = torch.stack([read_picture(Path(line[key]), 32, 32) for line in lines for key in ("chosen", "rejected")])
    latents, place = studio.encode(Images(pictures)), torch.arange(len(pictures))
    prompts = [Prompt(line["prompt"]) for line in lines for _ in range(2)]
    rollout = given(studio, prompts, latents, torch.ones(len(place)), place // 2, place // 2, 0).rollout
    how = Renoising(num_times=16, times="logit_normal")
    with torch.no_grad():
        found = torch.cat(
            [
                velocity_mse(policy.restore(pack, rollout.condition).velocity, pack.velocity)
                for pack in policy.renoise(rollout, place, how, Rng(("margin",)), 64)
            ]
        )
    chosen, rejected = found.view(-1, 2, 16).mean((0, 2)).tolist()
    return chosen, rejected


def test_decisions_that_are_given_cannot_be_scored(pairs: Path, miniature: Miniature, capsys, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(to_yaml(miniature.config(tmp_path / "run")))
    source = f"--source {THERE / 'toy_pairs.py'}:Pairs --algorithm FlowGRPO --sampler.dynamics FlowSDE"
    assert main(["train", str(recipe), *source.split()]) == 2
    assert "FlowGRPO scores the decisions by which samples were drawn" in capsys.readouterr().err
