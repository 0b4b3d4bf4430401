"""SANA-Sprint: the steps that its pipeline takes by default, and which of them are decisions."""

from __future__ import annotations

import math

import pytest
import torch

from limner.core.errors import UserError
from limner.core.rng import Rng
from limner.core.types import Prompt
from limner.diffusion.dynamics import CPS
from limner.models.piped import Piped
from limner.models.sana.build import tiny_sprint
from limner.models.sana.sprint import SANA_SPRINT, flow, native
from limner.policies.denoising import Sampler
from piped_cases import noise


@pytest.fixture(scope="module")
def model() -> Piped:
    return Piped.wrap(SANA_SPRINT, tiny_sprint(), SANA_SPRINT.tiny_settings)


def test_two_steps_are_those_of_the_pipeline(model: Piped) -> None:
    """The second time is 1.3 there; of other numbers of steps all are equal, and it is told to have none."""
    sampler = Sampler(CPS(1.0), 2)
    assert model.times(2).tolist() == pytest.approx([1, 1.3 / (math.pi / 2), 0])
    assert model.times(4).tolist() == pytest.approx([1, 0.75, 0.5, 0.25, 0], abs=1e-5)
    call = dict(model.settings.call(sampler.call()))
    assert "intermediate_timesteps" not in call
    assert model.settings.call(Sampler(CPS(1.0), 3).call())["intermediate_timesteps"] is None
    pipeline, start, text = tiny_sprint(), noise(model, 1), "a red star"
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.transformer, pipeline.vae, pipeline.text_encoder):
        part.eval()
    chance = torch.Generator().manual_seed(3)
    (expected,) = pipeline(text, latents=start, output_type="pt", return_dict=False, generator=chance, **call)
    policy, chance = sampler.policy(model), torch.Generator().manual_seed(3)
    condition, index, (first, second, _) = (
        model.encode([Prompt(text)]),
        torch.zeros(1, dtype=torch.long),
        model.times(2),
    )
    with torch.no_grad():
        x0 = policy.estimate(start, first[None], condition, index).x0
        x = math.cos(1.3) * x0 + math.sin(1.3) * torch.randn(x0.shape, generator=chance)
        found = model.decode(policy.estimate(x, second[None], condition, index).x0).frames()[:, 0]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_every_step_but_the_last_is_a_decision(model: Piped) -> None:
    """Noised again to sigma(s), whatever x was; the last gives the data themselves."""
    policy = Sampler(CPS(1.0), 3).policy(model)
    condition, index = model.encode([Prompt("a red star")]), torch.zeros(2, dtype=torch.long)
    with torch.no_grad():
        drawn = policy.sample(condition, index, index, torch.arange(2), rng=Rng((0,)), record=True)
    path = drawn.trajectory
    assert (
        path is not None and path.mask.tolist() == [[True, True]] * 2 or path.mask.tolist() == [[True, True, False]] * 2
    )
    expected = torch.tensor([math.sin(2 / 3 * math.pi / 2), math.sin(1 / 3 * math.pi / 2)])
    torch.testing.assert_close(path.old.std, expected.expand(2, 2), atol=1e-5, rtol=0)


def test_the_answer_of_the_flow_becomes_v_of_the_circle() -> None:
    """For an exact network: on the flow's line through the same data and noise its answer is noise - x0."""
    x0, noise = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.05, 0.3, 0.5, 0.8, 1.0], dtype=torch.float64)
    angle = (t * math.pi / 2)[:, None]
    x = angle.cos() * x0 + angle.sin() * noise
    s, length = flow(t, x)
    torch.testing.assert_close(length * x, (1 - s[:, None]) * x0 + s[:, None] * noise)
    torch.testing.assert_close(native(x, t, noise - x0), angle.cos() * noise - angle.sin() * x0)


def test_a_sampler_that_guides_is_refused(model: Piped) -> None:
    with pytest.raises(UserError, match=r"sampler.guidance is 2.0, and a SanaSprintPipeline does not guide"):
        model.settings.call(Sampler(CPS(1.0), 2, guidance=2.0).call())
