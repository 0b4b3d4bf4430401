"""HiDream: gradients through its experts, the schedulers of its three checkpoints, and sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchLCMScheduler, UniPCMultistepScheduler
from diffusers.models.transformers.transformer_hidream_image import MOEFeedForwardSwiGLU
from torch import Tensor, nn

from limner.core.errors import UserError
from limner.core.types import Prompt
from limner.diffusion.dynamics import CPS, EulerODE
from limner.models.hidream.build import tiny_pipeline
from limner.models.hidream.family import HIDREAM, differentiable
from limner.models.piped import Piped
from limner.policies.denoising import Sampler
from piped_cases import Case, noise

TEXT, STEPS = "a red star", 4


def model_of(scheduler: object = None) -> Piped:
    return Piped.wrap(HIDREAM, tiny_pipeline(scheduler=scheduler), HIDREAM.tiny_settings)


def plain(start: Tensor, scheduler: object) -> Tensor:
    """Return what the unmodified pipeline draws; what it draws beside its first noise is of the seed 5."""
    pipeline = Case(HIDREAM, lambda: tiny_pipeline(scheduler=scheduler)).plain()
    pipeline.default_sample_size = 4
    torch.manual_seed(5)
    call = HIDREAM.tiny_settings.call(Sampler(EulerODE(), STEPS).call())
    return pipeline(TEXT, latents=start, output_type="pt", return_dict=False, **call)[0]


@pytest.fixture
def experts() -> Iterator[MOEFeedForwardSwiGLU]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield MOEFeedForwardSwiGLU(8, 512, 4, 2).double().eval()


def by_hand(experts: MOEFeedForwardSwiGLU, x: Tensor) -> Tensor:
    """Return the sum, token by token: the two largest of softmax(G x) weigh W2 (silu(W1 x) W3 x), and one for all."""

    def one(expert: nn.Module, token: Tensor) -> Tensor:
        w1, w2, w3 = (expert.get_parameter(f"w{i}.weight") for i in (1, 2, 3))
        gated = w1 @ token
        return w2 @ (gated * gated.sigmoid() * (w3 @ token))

    rows = []
    for token in x.flatten(0, 1):
        odds = (experts.gate.weight @ token).exp()
        chances = odds / odds.sum()
        first, second = chances.argsort(descending=True)[:2].tolist()
        rows.append(sum(chances[i] * one(experts.experts[i], token) for i in (first, second)))
        rows[-1] = rows[-1] + one(experts.shared_experts, token)
    return torch.stack(rows).view_as(x)


def test_experts_give_the_sum_of_the_paper_and_all_of_its_gradient(experts: MOEFeedForwardSwiGLU) -> None:
    """As diffusers evaluates them the values are the same, and no gradient reaches an expert or its gate."""
    x = torch.randn(2, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    towards = torch.randn(2, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    inputs = [x, *experts.parameters()]
    evaluated = experts(x)
    found = torch.autograd.grad((evaluated * towards).sum(), inputs, allow_unused=True)
    names = [name for name, _ in experts.named_parameters()]
    assert {name for name, each in zip(names, found[1:], strict=True) if each is not None} == {
        f"shared_experts.w{i}.weight" for i in (1, 2, 3)
    }
    differentiable(nn.Sequential(experts))
    summed, expected = experts(x), by_hand(experts, x)
    torch.testing.assert_close(summed, evaluated, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(summed, expected, atol=1e-12, rtol=1e-12)
    ours, theirs = (torch.autograd.grad((y * towards).sum(), inputs) for y in (summed, expected))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-11, rtol=1e-9)
    assert not torch.allclose(ours[0], found[0])


def test_gradients_of_the_network_are_its_differences() -> None:
    """Along a direction of all weights and x, in float64; whoever has put the network in another mode."""
    model = model_of()
    network = model.networks["transformer"].double().eval()
    model = replace(model, dtype=torch.float64)
    rows = {name: each[:1].double() for name, each in model.encode([Prompt(TEXT)]).items()}
    generator = torch.Generator().manual_seed(3)
    x = noise(model, 1).double().requires_grad_()
    places = [x, *network.parameters()]
    ways = [torch.randn(each.shape, dtype=torch.float64, generator=generator) for each in places]
    t, index, weights = torch.tensor([0.6]), torch.zeros(1, dtype=torch.long), torch.randn(x.shape, generator=generator)

    def loss() -> Tensor:
        steps = 1000 * t
        (found,) = differentiable(network)(
            hidden_states=x, timesteps=steps, encoder_hidden_states_t5=rows["context"],
            encoder_hidden_states_llama3=rows["layers"].movedim(1, 0), pooled_embeds=rows["pooled"], return_dict=False,
        )  # fmt: skip
        return (found * weights).sum()

    with torch.no_grad():
        predicted = model.predict(x, t, rows, index)
        assert -float(loss()) == pytest.approx(float((predicted * weights).sum()), rel=1e-5)
    gradients = torch.autograd.grad(loss(), places, allow_unused=True)
    assert all(each is not None for each in gradients)
    along = sum(float((g * w).sum()) for g, w in zip(gradients, ways, strict=True))
    ends, far = [], 1e-5  # its norms round to float32 on the way
    with torch.no_grad():
        for sign in (1, -2):
            for each, way in zip(places, ways, strict=True):
                each += sign * far * way
            ends.append(float(loss()))
    assert (ends[0] - ends[1]) / (2 * far) == pytest.approx(along, rel=1e-4)


def test_the_distilled_ones_are_drawn_with_fresh_noise_at_each_time() -> None:
    """As by `FlowMatchLCMScheduler`: CPS(1), whose last step is of no noise."""
    scheduler = FlowMatchLCMScheduler(shift=6.0)
    model = model_of(scheduler)
    x = start = noise(model, 1)
    policy, condition, times = Sampler(CPS(1.0), STEPS).policy(model), model.encode([Prompt(TEXT)]), model.times(STEPS)
    with torch.random.fork_rng():
        expected = plain(start, scheduler)
        torch.manual_seed(5)
        with torch.no_grad():
            for t, s in zip(times[:-1], times[1:], strict=True):
                x0 = policy.estimate(x, t[None], condition, torch.zeros(1, dtype=torch.long)).x0
                x = (1 - s) * x0 + s * torch.randn(x0.shape)
            found = model.decode(x).frames()[:, 0]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    scheduler.set_timesteps(STEPS)
    torch.testing.assert_close(times, scheduler.sigmas)


@pytest.mark.parametrize(
    "scheduler",
    [
        UniPCMultistepScheduler(
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            flow_shift=3.0,
            solver_order=1,
            disable_corrector=list(range(STEPS)),
        ),
        FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    ],
    ids=["solver", "dynamic"],
)
def test_other_schedulers_are_honoured(scheduler: object) -> None:
    """Of order 1 the solver of the full one takes Euler's steps; the dynamic shift is by the network's most tokens."""
    model = model_of(scheduler)
    x = start = noise(model, 1)
    expected = plain(start, scheduler)
    condition, times, index = model.encode([Prompt(TEXT)]), model.times(STEPS), torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        for t, s in zip(times[:-1], times[1:], strict=True):
            x = x + (s - t) * model.predict(x, t[None], condition, index)
        found = model.decode(x).frames()[:, 0]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_sizes_for_which_the_network_has_no_places_are_refused() -> None:
    model = model_of()
    assert model.sized(96, 96).latent().shape == (4, 12, 12)
    with pytest.raises(UserError, match="96 x 64 pixels are 24 tokens; no square may have 16 at most"):
        model.sized(96, 64)


def test_a_folder_without_llama_is_told_where_it_is(tmp_path: Path) -> None:
    """As all are published."""
    (tmp_path / "model_index.json").write_text('{"_class_name": "HiDreamImagePipeline"}')
    with pytest.raises(UserError, match="has no text_encoder_4: it is Llama 3.1 8B Instruct, which is published apart"):
        HIDREAM.tiny_settings.load(tmp_path, torch.float32, torch.device("cpu"))


def test_layers_that_llama_has_not_are_refused() -> None:
    pipeline = tiny_pipeline()
    pipeline.transformer.register_to_config(llama_layers=[0, 1, 2])
    with pytest.raises(UserError, match="llama_layers of the transformer go to 2; Llama has 2"):
        Piped.wrap(HIDREAM, pipeline, HIDREAM.tiny_settings)
