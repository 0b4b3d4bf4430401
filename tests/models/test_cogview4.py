"""CogView4: texts of several lengths in one batch, and what its network is told of time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from limner.core.errors import UserError
from limner.core.types import Prompt
from limner.diffusion.dynamics import EulerODE
from limner.models.cogview4.build import tiny_pipeline
from limner.models.cogview4.family import COGVIEW4
from limner.models.piped import Piped
from limner.policies.denoising import Sampler
from piped_cases import noise

SHORT, LONG = "a red star", "two green squares above a star"
STEPS, GUIDANCE = 3, 2.5


def model_of(shift_type: str = "linear") -> Piped:
    return Piped.wrap(COGVIEW4, tiny_pipeline(shift_type=shift_type), COGVIEW4.tiny_settings)


def plain(text: str, start: Tensor, shift_type: str = "linear") -> Tensor:
    """Return what the unmodified pipeline draws of one prompt."""
    pipeline = tiny_pipeline(shift_type=shift_type)
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.transformer, pipeline.vae, pipeline.text_encoder):
        part.eval()
    call = COGVIEW4.tiny_settings.call(Sampler(EulerODE(), STEPS, guidance=GUIDANCE).call())
    return pipeline(text, latents=start, output_type="pt", return_dict=False, **call)[0]


def drawn(model: Piped, texts: list[str], start: Tensor) -> Tensor:
    policy = Sampler(EulerODE(), STEPS, guidance=GUIDANCE).policy(model)
    condition, times, x = model.encode([Prompt(text) for text in texts]), model.times(STEPS), start
    index = torch.arange(len(texts))
    with torch.no_grad():
        for t, s in zip(times[:-1], times[1:], strict=True):
            x = x + (s - t) * policy.estimate(x, t.expand(len(x)), condition, index).velocity
        return model.decode(x).frames()[:, 0]


def test_texts_of_several_lengths_are_each_drawn_as_the_pipeline_draws_it_alone() -> None:
    """One is 16 tokens long and the other 32, and the negative prompt is of the first length."""
    model, texts = model_of(), [LONG, SHORT, LONG]
    assert model.encode([Prompt(text) for text in texts])["mask"].sum(1).tolist() == [32, 16, 32, 16]
    start = noise(model, 3)
    found = drawn(model, texts, start)
    expected = torch.cat([plain(text, start[i : i + 1]) for i, text in enumerate(texts)])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shift_type", ["linear", "exponential", ""])
def test_the_network_is_told_the_time_before_the_shift(shift_type: str) -> None:
    """As the pipeline tells it: whole thousandths, while x stands at the shifted ones."""
    model, told = model_of(shift_type), []
    handle = model.networks["transformer"].register_forward_pre_hook(
        lambda module, args, named: told.append(named["timestep"]), with_kwargs=True
    )
    with torch.no_grad():
        times = model.times(STEPS)
        model.predict(noise(model, STEPS), times[:-1], model.encode([]), torch.zeros(STEPS, dtype=torch.long))
    handle.remove()
    torch.testing.assert_close(told[0], torch.tensor([1000.0, 500.0, 1.0]), atol=1e-3, rtol=0)
    scheduler, mu = model.pipeline.scheduler, 0.25 + 0.75 * (4 / 256) ** 0.5  # 2 x 2 tokens
    scheduler.set_timesteps(sigmas=np.array([1, 0.5, 0.001]), mu=mu)
    torch.testing.assert_close(times, scheduler.sigmas)
    assert shift_type != "" or times[1] == pytest.approx(3 * 0.5 / (1 + 2 * 0.5))


def test_a_schedule_from_which_time_cannot_be_told_is_refused() -> None:
    pipeline = tiny_pipeline()
    pipeline.scheduler.register_to_config(shift_terminal=0.02)
    with pytest.raises(UserError, match=r"scheduler has shift_terminal 0.02, which limner does not implement"):
        Piped.wrap(COGVIEW4, pipeline, COGVIEW4.tiny_settings)
