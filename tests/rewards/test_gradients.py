"""Gradients of judges and of their expressions, against central differences in float64 of what is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from limner.core.errors import JudgeFailure, UserError
from limner.core.media import Images, Media
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.judges import compose
from limner.judging.cache import Cached
from limner.judging.checked import Checked
from limner.judging.spec import declare
from limner.rewards.algebra.compose import Composition
from limner.rewards.algebra.parse import parse
from limner.rewards.algebra.tree import leaves
from limner.worlds.oracle.model import Points

PROMPTS = [Prompt("")] * 3
POINTS = torch.tensor([[0.3, -0.7], [1.2, 0.4], [-0.5, 2.0]], dtype=torch.float64)
SMOOTH = ["o2", "2 * o1 - o2 / 4 + 1", "logistic(o1, slope=2) * logistic(o2)", "gate(o1, o2 >= 0, soft=0.5)"]
KINKED = ["worst(o1, o2)", "clip(o1, low=-0.4)", "pessimistic(o1, o2, k=0.5)", "gate(o1, o2 >= 0)"]


@dataclass(frozen=True)
class Grey:
    """A differentiable reward of pictures, invalid where they are darker than `least`."""

    spec: RewardSpec
    least: float = -1.0

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        light = media.frames().square().mean((1, 2, 3, 4))
        return RewardOutput(light, light >= self.least, {"root": light.sqrt()}, explanation=["seen"] * len(light))


GREY = Grey(RewardSpec("grey", "mean square of the pixels", differentiable=True))


@pytest.mark.parametrize("text", SMOOTH + KINKED)
def test_an_expression_has_the_slope_of_what_it_judges(text: str) -> None:
    """Points are saved as numbers, so that the judged total has differences."""
    reward = compose(text)
    points = POINTS.clone().requires_grad_()
    total = reward.differentiable(Points(points), PROMPTS).score
    assert total.dtype == torch.float64 and reward.spec.differentiable
    torch.testing.assert_close(total.detach(), reward(Points(POINTS), PROMPTS).score)
    (gradient,) = torch.autograd.grad(total.sum(), points)
    step, moved = 1e-4, torch.eye(2, dtype=torch.float64)
    for axis in range(2):
        ahead, behind = (reward(Points(POINTS + sign * step * moved[axis]), PROMPTS).score for sign in (1, -1))
        slope = (ahead - behind) / (2 * step)
        torch.testing.assert_close(gradient[:, axis], slope, atol=1e-6, rtol=1e-5)
    if text in SMOOTH:
        assert torch.autograd.gradcheck(lambda x: reward.differentiable(Points(x), PROMPTS).score, points)


def test_pictures_are_not_rounded_for_a_gradient() -> None:
    """Between two levels of a file the judged score stands still, and the differentiable one does not."""
    pixels = torch.full((3, 3, 2, 2), 100.2 / 255, dtype=torch.float64, requires_grad=True)
    judge = Checked("grey", GREY)
    output = judge.differentiable(Images(pixels), PROMPTS)
    assert output.score[0].item() == pytest.approx((100.2 / 255) ** 2, rel=1e-12)
    assert judge(Images(pixels.detach()), PROMPTS).score[0].item() == pytest.approx((100 / 255) ** 2, rel=1e-6)
    assert torch.autograd.gradcheck(lambda x: judge.differentiable(Images(x), PROMPTS).score, pixels)
    assert torch.autograd.gradcheck(lambda x: judge.differentiable(Images(x), PROMPTS).components["root"], pixels)
    assert output.explanation == ("seen",) * 3 and not judge(Images(pixels), PROMPTS).score.requires_grad


def test_what_is_invalid_has_no_gradient_and_leaves_that_of_others() -> None:
    pixels = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64).view(3, 1, 1, 1).repeat(1, 3, 2, 2).requires_grad_()
    judge = Checked("grey", Grey(GREY.spec, least=0.2))
    expression = parse("2 * grey * grey.root")
    reward = Composition(expression, {leaf: judge for leaf in leaves(expression)})
    output = reward.differentiable(Images(pixels), PROMPTS)
    assert output.valid.tolist() == [False, True, True] and output.score[0].isnan()
    (gradient,) = torch.autograd.grad(output.score[output.valid].sum(), pixels)
    assert gradient[0].abs().max() == 0  # of 2 x^3 for a picture of grey x, a share of 6 x^2 for each of 12 values
    torch.testing.assert_close(gradient[1:, 0, 0, 0], 6 * pixels.detach()[1:, 0, 0, 0] ** 2 / 12)


def test_without_gradients_it_is_refused(tmp_path) -> None:
    media = Points(POINTS)
    says = r"reward 'o3' is not differentiable: no gradient reaches what it judges"
    for reward in (compose("o3"), compose("o1 + o3"), compose("o3", tmp_path)):
        assert not reward.spec.differentiable
        with pytest.raises(UserError, match=says):
            reward.differentiable(media, PROMPTS)
    with pytest.raises(UserError, match="compares a sample with its group"):
        compose("rank(o1) + o2").differentiable(media, PROMPTS)


def test_a_cache_passes_gradients_and_keeps_none(tmp_path) -> None:
    points = POINTS.clone().requires_grad_()
    judge = Cached("grey", Checked("grey", GREY), tmp_path, "v1")
    assert judge.spec is GREY.spec and judge.differentiable(Points(points), PROMPTS).score.requires_grad
    assert not (tmp_path / "rewards.sqlite").exists()


def test_a_failure_is_invalid_there_too() -> None:
    @declare(RewardSpec("down", "nothing", differentiable=True))
    def down(media: Media, prompts: Sequence[Prompt]) -> Tensor:
        raise JudgeFailure("away")

    assert not Checked("down", down).differentiable(Points(POINTS), PROMPTS).valid.any()
