"""Students of few steps: what the teacher is asked, what is learned from it, and the folder that comes out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchLCMScheduler, StableDiffusion3Pipeline
from torch import Tensor

from limner.cli import main
from limner.core.rng import Rng
from limner.core.types import Prompt
from limner.diffusion.dynamics import CPS, DPMSolver, EulerODE
from limner.diffusion.prediction import to_estimate
from limner.models.sd3.adapter import LAST, SD3
from limner.models.sd3.settings import SD3Settings
from limner.policies.denoising import Denoising, Sampler, Step
from limner.policies.one_step import OneStepSampler
from limner.training.distill import Distillation, Pairs, chain, distill, errors, finer, follow
from limner.worlds.oracle.model import Oracle
from toys import toy_denoiser

PROMPTS = [Prompt("anything")]


def silent(row: Mapping[str, Any]) -> None: ...


def end(x: Tensor, t: Tensor) -> Tensor:
    """Where the flow of N(0, I) leads from x at time t: x / sqrt((1 - t)^2 + t^2), for every x_t is Gaussian."""
    return x / ((1 - t) ** 2 + t**2).sqrt()[:, None]


def test_the_teacher_leads_where_its_flow_does() -> None:
    """Against the closed form on o1; and what noises a pair's data again is the next pair's state."""
    oracle, times = Oracle.load("o1"), torch.tensor([1.0, 0.9, 0.6, 0.0])
    noise = Rng(("noise",)).normal(torch.arange(50), (3, 2))
    teacher = Denoising(oracle, Sampler(DPMSolver(), 3, guidance=1.0))
    pairs = chain(teacher, times, 40, oracle.encode(PROMPTS), torch.zeros(50).long(), noise)
    torch.testing.assert_close(pairs.t, times[:3].repeat_interleave(50))
    torch.testing.assert_close(pairs.x0, end(pairs.x, pairs.t), atol=5e-3, rtol=5e-3)
    x, x0 = pairs.x.view(3, 50, 2), pairs.x0.view(3, 50, 2)
    torch.testing.assert_close(x[0], noise[:, 0])
    torch.testing.assert_close(x[1], 0.1 * x0[0] + 0.9 * noise[:, 1])
    torch.testing.assert_close(x[2], 0.4 * x0[1] + 0.6 * noise[:, 2])


@pytest.mark.parametrize("dynamics", [EulerODE(), DPMSolver()], ids=["euler", "dpm"])
def test_to_follow_is_to_sample(dynamics: EulerODE | DPMSolver) -> None:
    """From the noise that a guided policy begins with, to the sample that it draws."""
    policy = Denoising(toy_denoiser(2), Sampler(dynamics, 5, guidance=2.5))
    condition, ids, begun = policy.model.encode([Prompt("1"), Prompt("2")]), torch.arange(6), []

    def watch(step: Step) -> None:
        begun.append(step.x)

    index = ids % 2
    with torch.no_grad():
        drawn = policy.sample(condition, index, ids, ids, rng=Rng(("x",)), record=False, watch=watch)
        torch.testing.assert_close(follow(policy, begun[0], policy.times(), condition, index), drawn.sample)


def test_times_are_divided_evenly() -> None:
    assert finer(torch.tensor([1.0, 0.4, 0.0]), 2).tolist() == pytest.approx([1, 0.7, 0.4, 0.2, 0])


def test_an_error_by_hand() -> None:
    """|x - t v - x0|^2 / D, with v of the toy network."""
    model, x, x0 = toy_denoiser(1), torch.randn(2, 3), torch.randn(2, 3)
    t, prompt = torch.tensor([0.5, 0.8]), torch.tensor([0, 1])
    condition = model.encode([Prompt("1"), Prompt("2")])
    v = model.network.scale * x + model.network.drift * t[:, None] + model.network.word[torch.tensor([1, 2])]
    expected = (x - t[:, None] * v - x0).square().mean(1)
    torch.testing.assert_close(errors(model, Pairs(x, t, x0, prompt), condition), expected)


SETTINGS = Distillation(guidance=1.0, substeps=12, chains=400, updates=400, batch=100, lr=0.02, checkpoint_seconds=0)


def test_a_student_says_at_once_where_the_flow_leads(tmp_path: Path) -> None:
    """On o1 the teacher says at t = 1 that all data is 0, its mean; the student, as it must, that data is the noise."""
    teacher, student = Oracle.load("o1"), Oracle.load("o1")
    condition, x = teacher.encode(PROMPTS), torch.randn(64, 2)
    index, moment = torch.zeros(64).long(), teacher.times(4)

    def said(model: Oracle, t: Tensor) -> Tensor:
        velocity = model.predict(x, t, condition, index)
        return to_estimate(model.prediction, velocity, x, t, model.schedule).x0.detach()

    distill(teacher, student, PROMPTS, SETTINGS, tmp_path, silent)
    for k in range(4):
        t = moment[k].expand(64)
        torch.testing.assert_close(said(student, t), end(x, t), atol=0.05, rtol=0.03)
    assert said(teacher, torch.ones(64)).abs().max() < 1e-5
    drawn = (
        Sampler(CPS(1.0), 4)
        .policy(student)
        .sample(
            condition, torch.zeros(4000).long(), torch.arange(4000), torch.arange(4000), rng=Rng(("s",)), record=False
        )
    )
    assert drawn.sample.std(0).tolist() == pytest.approx([1, 1], abs=0.05)


class Killed(Exception):
    """As if the process had ended."""


@pytest.mark.parametrize("moment", [("chains", 200), ("student", 20)], ids=str)
def test_what_was_killed_goes_on_to_the_same_student(moment: tuple[str, int], tmp_path: Path) -> None:
    few = Distillation(guidance=1.0, substeps=1, chains=400, updates=30, batch=100, lr=0.02, checkpoint_seconds=0)
    whole, parted = Oracle.load("o1"), Oracle.load("o1")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    distill(Oracle.load("o1"), whole, PROMPTS, few, tmp_path / "a", silent)

    def log(row: Mapping[str, Any]) -> None:
        if (row["stage"], row["step"]) == moment:
            raise Killed

    with pytest.raises(Killed):
        distill(Oracle.load("o1"), Oracle.load("o1"), PROMPTS, few, tmp_path / "b", log)
    distill(Oracle.load("o1"), parted, PROMPTS, few, tmp_path / "b", silent)
    for mine, theirs in zip(
        parted.networks["residual"].parameters(), whole.networks["residual"].parameters(), strict=True
    ):
        assert torch.equal(mine, theirs)


def test_the_folder_is_sampled_by_diffusers_as_here(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """By its own scheduler, whose noise is the process's; the grid is 4 steps that end at LAST."""
    folder, settings = tmp_path / "tiny", SD3Settings(max_sequence_length=16)
    SD3.tiny(folder)
    arguments = ["--chains", "2", "--batch", "2", "--updates", "1", "--substeps", "1", "--prompts", "scenes:train"]
    assert main(["distill", str(folder), *arguments, "--out", str(tmp_path / "out")]) == 0
    plain = StableDiffusion3Pipeline.from_pretrained(tmp_path / "out" / "pipeline")
    plain.set_progress_bar_config(disable=True)
    assert isinstance(plain.scheduler, FlowMatchLCMScheduler) and "not expected" not in capfd.readouterr().err
    student = SD3.load(tmp_path / "out" / "pipeline", settings)
    assert student.times(4)[-2] == pytest.approx(LAST) and student.times(4)[0] == 1
    latents, asked = torch.randn(1, *student.latent().shape), {"max_sequence_length": 16, "output_type": "pt"}
    torch.manual_seed(7)
    theirs = plain("a red star", latents=latents, num_inference_steps=4, guidance_scale=1.0, **asked).images
    plain.scheduler = FlowMatchEulerDiscreteScheduler()
    once = plain("a red star", latents=latents, num_inference_steps=1, guidance_scale=1.0, **asked).images
    torch.manual_seed(7)
    noise = [torch.randn_like(latents) for _ in range(4)]

    policy, x = Sampler(CPS(1.0), 4).policy(student), latents
    condition, index, times = student.encode([Prompt("a red star")]), torch.zeros(1).long(), student.times(4)
    with torch.no_grad():
        for i, (t, s) in enumerate(zip(times[:-1], times[1:], strict=True)):
            following = policy.step(x, (t.expand(1), s.expand(1)), condition, index, (s > 0).expand(1))[1]
            x = following.mean + following.std[:, None, None, None] * noise[i]
        torch.testing.assert_close(student.decode(x).frames()[:, 0], theirs, atol=1e-4, rtol=1e-4)
        x = OneStepSampler(noise=0.0).policy(student).model.generate(latents, condition, index)
        torch.testing.assert_close(student.decode(x).frames()[:, 0], once, atol=1e-4, rtol=1e-4)


def test_the_teacher_is_what_a_run_tuned(tmp_path: Path) -> None:
    """Of a base with networks that were exported: what a pipeline gives that has these as its own."""
    base, tuned = tmp_path / "base", tmp_path / "tuned"
    SD3.tiny(base)
    pipeline = StableDiffusion3Pipeline.from_pretrained(base)
    with torch.no_grad():
        for weight in pipeline.transformer.parameters():
            weight.mul_(1.5)
    pipeline.save_pretrained(tuned)
    (asked := tmp_path / "asked.txt").write_text("a red star\ntwo stars\n")
    arguments = ["--chains", "2", "--batch", "2", "--updates", "1", "--substeps", "1", "--prompts", str(asked)]
    assert main(["distill", str(base), *arguments, "--out", str(tmp_path / "plain")]) == 0
    assert main(["distill", str(tuned), *arguments, "--out", str(tmp_path / "own")]) == 0
    start = ["--start", str(tuned / "transformer")]
    assert main(["distill", str(base), *arguments, *start, "--out", str(tmp_path / "started")]) == 0
    plain, own, started = (torch.load(tmp_path / name / "chains.pt") for name in ("plain", "own", "started"))
    assert torch.equal(started["x0"], own["x0"]) and not torch.equal(started["x0"], plain["x0"])
    students = [StableDiffusion3Pipeline.from_pretrained(tmp_path / name / "pipeline") for name in ("own", "started")]
    mine, theirs = (student.transformer.state_dict() for student in students)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["o1"], "no prompts"),
        (["scenes", "--steps", "1"], "steps must be at least 2"),
        (["scenes", "--guidance", "nan"], "guidance"),
        (["scenes", "--chain", "3"], "chains"),
        (["no-such-model", "--prompts", "scenes:train"], "no-such-model"),
    ],
    ids=str,
)
def test_what_cannot_be(arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["distill", *arguments, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()
