"""HunyuanImage: what stands in quotation marks, how long texts may be, and guidance by the pipeline's own parts."""

from __future__ import annotations

import pytest
import torch
from diffusers import AdaptiveProjectedMixGuidance
from torch import Tensor

from limner.core.errors import UserError
from limner.core.types import Prompt
from limner.diffusion.dynamics import EulerODE
from limner.models.hunyuan_image.build import tiny_pipeline
from limner.models.hunyuan_image.family import HUNYUAN_IMAGE
from limner.models.piped import Piped
from limner.policies.denoising import Sampler
from piped_cases import Case, noise

TEXTS = ['a "red" star', "a star"]
STEPS, GUIDANCE = 2, 2.5


def model_of() -> Piped:
    return Piped.wrap(HUNYUAN_IMAGE, tiny_pipeline(), HUNYUAN_IMAGE.tiny_settings)


def test_each_is_drawn_as_the_pipeline_draws_it_alone() -> None:
    """With its own guidance, which is classifier-free for six steps, and its own lengths: 1000 and 128 tokens."""
    model, plain = model_of(), Case(HUNYUAN_IMAGE, tiny_pipeline).plain()
    plain.tokenizer_max_length, plain.tokenizer_2_max_length = 1000, 128
    plain.guider = AdaptiveProjectedMixGuidance(guidance_scale=GUIDANCE)
    sampler = Sampler(EulerODE(), STEPS, guidance=GUIDANCE)
    x = start = noise(model, 2)
    call = model.settings.call(sampler.call())
    expected = torch.cat([
        plain(text, latents=start[i : i + 1], output_type="pt", return_dict=False, **call)[0]
        for i, text in enumerate(TEXTS)
    ])  # fmt: skip
    policy, condition, times = sampler.policy(model), model.encode(list(map(Prompt, TEXTS))), model.times(STEPS)
    assert condition["letters_mask"].any(1).tolist() == [True, False, False]
    with torch.no_grad():
        for t, s in zip(times[:-1], times[1:], strict=True):
            x = x + (s - t) * policy.estimate(x, t.expand(2), condition, torch.arange(2)).velocity
        found: Tensor = model.decode(x).frames()[:, 0]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_a_text_of_which_the_pipeline_would_read_more_is_refused() -> None:
    model = model_of()
    assert model.encode([Prompt("x" * 23)])["mask"][0].all()
    with pytest.raises(UserError, match=r"prompt 'xxx.* has 26 tokens, and model.settings.max_sequence_length is 24"):
        model.encode([Prompt("a star"), Prompt("x" * 25)])


@pytest.mark.parametrize("values", [{"use_meanflow": True}, {"guidance_embeds": True}], ids=str)
def test_the_distilled_network_is_refused(values: dict[str, bool]) -> None:
    pipeline = tiny_pipeline()
    pipeline.transformer.register_to_config(**values)
    with pytest.raises(UserError, match=f"transformer has {next(iter(values))} True, which limner does not implement"):
        Piped.wrap(HUNYUAN_IMAGE, pipeline, HUNYUAN_IMAGE.tiny_settings)
