"""What every denoiser adapter must do; a new adapter joins `ADAPTERS` with its miniature."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from limner.core.errors import UserError
from limner.core.protocols import Denoiser
from limner.core.tree import leaves, select
from limner.core.types import Condition, Vocabulary
from limner.diffusion.prediction import from_estimate, to_estimate
from limner.diffusion.schedule import Schedule
from limner.engine.full import full
from limner.engine.precision import Precision, checkpoint_activations
from limner.models.given import Taking
from limner.models.hidream.build import tiny_pipeline as tiny_hidream
from limner.models.hidream.family import HIDREAM
from limner.models.piped import Piped
from limner.models.sd.adapter import SD
from limner.models.sd3.adapter import SD3
from limner.models.sd3.build import SD3Size, build
from limner.models.sd3.settings import SD3Settings
from limner.models.wan.adapter import Wan
from limner.models.wan.build import WanSize
from limner.models.wan.build import build as build_wan
from limner.models.wan.settings import WanSettings
from piped_cases import CASES
from piped_cases import PROMPTS as PIPED_PROMPTS

SMALL = SD3Size(Vocabulary(("red", "star")), layers=2)
SMALL_WAN = WanSize(Vocabulary(("red", "star")), layers=2, heads=2)


def two_experts() -> Wan:
    """Return a pipeline whose noisy times have a network of their own."""
    tiny = Wan.tiny()
    first = tiny.pipeline.transformer
    tiny.pipeline.register_modules(transformer_2=type(first).from_config(first.config))
    tiny.pipeline.register_to_config(boundary_ratio=0.5)
    return Wan.wrap(tiny.pipeline, tiny.settings)


ADAPTERS: dict[str, Callable[[], Denoiser]] = {
    "sd3": SD3.tiny,
    "sd3-without-t5": lambda: SD3.wrap(build(SMALL), SD3Settings(max_sequence_length=0)),
    "sd15": lambda: SD.tiny("sd15"),
    "sd21": lambda: SD.tiny("sd21"),
    "sdxl": lambda: SD.tiny("sdxl"),
    **{name: case.model for name, case in CASES.items()},
    # Each token to both: where one goes to others the sum jumps, and no coarse difference is a gradient.
    "hidream": lambda: Piped.wrap(HIDREAM, tiny_hidream(experts=2), HIDREAM.tiny_settings),
    "wan": Wan.tiny,
    "wan-with-two-experts": two_experts,
    "wan-of-a-world": lambda: Wan.wrap(build_wan(SMALL_WAN), WanSettings(32, num_frames=13, max_sequence_length=8)),
}
PROMPTS = [PIPED_PROMPTS[i] for i in (0, 1, 0)]


@pytest.fixture(scope="module", params=sorted(ADAPTERS))
def adapter(request: pytest.FixtureRequest) -> Iterator[Denoiser]:
    yield ADAPTERS[request.param]()


@pytest.fixture(scope="module")
def condition(adapter: Denoiser) -> Condition:
    return adapter.encode(PROMPTS)


def draw(adapter: Denoiser, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, *adapter.latent().shape, generator=generator)
    return x, torch.linspace(0.2, 0.9, count)


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_a_miniature_is_made_in_a_second(name: str) -> None:
    start = time.process_time()
    ADAPTERS[name]()
    assert time.process_time() - start < 1


def test_condition_has_a_row_for_each_prompt_and_the_empty_one_last(adapter: Denoiser, condition: Condition) -> None:
    empty = adapter.encode([])
    for rows, last in zip(leaves(condition), leaves(empty), strict=True):
        assert rows.shape[0] == 4 and last.shape[0] == 1
        assert torch.equal(rows[0], rows[2])
        torch.testing.assert_close(rows[3], last[0], atol=1e-6, rtol=1e-5)
        assert not rows.requires_grad and rows.dtype in (torch.float32, torch.bool)
    assert any(not torch.allclose(rows[0], rows[1], atol=1e-3) for rows in leaves(condition))


def test_times_fall_from_near_1_to_data(adapter: Denoiser) -> None:
    """SD 1.5's grid begins at 1 - 1 / steps, and ends at its chain's first level, 1 / 1000."""
    for steps in (4, 10):
        times = adapter.times(steps)
        assert times.shape == (steps + 1,) and times.dtype == torch.float32
        assert 0 <= times[-1] <= 0.001 and 1 - 1 / steps <= times[0] <= 1
        assert bool((times.diff() < 0).all())
    assert torch.equal(adapter.times(4), adapter.times(4))


def test_predict_keeps_the_latent_shape_in_float32(adapter: Denoiser, condition: Condition) -> None:
    x, t = draw(adapter, 3)
    out = adapter.predict(x, t, condition, torch.tensor([0, 1, 3]))
    assert out.shape == x.shape and out.dtype == torch.float32
    assert bool(out.isfinite().all()) and out.std() > 1e-3


def test_a_network_in_bfloat16_answers_in_float32(adapter: Denoiser, condition: Condition) -> None:
    x, t = draw(adapter, 3)
    half = full(adapter.networks, reference=False, old=False).actor(adapter, "policy", Precision("bfloat16"))
    with torch.no_grad():
        exact, found = (model.predict(x, t, condition, torch.tensor([0, 1, 3])) for model in (adapter, half))
    assert found.dtype == torch.float32 and 0 < (found - exact).norm() < 0.05 * exact.norm()


UNABLE = {"HunyuanDiT2DModel"}
"""Networks that diffusers gives no activation checkpointing."""


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_recomputed_activations_give_the_same_gradients(name: str) -> None:
    """Whatever a network hands on to its blocks, by place or by name, and whatever diffusers leaves out there."""
    adapter = ADAPTERS[name]()
    condition = adapter.encode(PROMPTS)
    weights = [p.requires_grad_(True) for network in adapter.networks.values() for p in network.parameters()]

    def gradients() -> list[Tensor]:
        x, t = draw(adapter, 2)
        answer = adapter.predict(x, t, condition, torch.tensor([0, 1]))
        return list(torch.autograd.grad(answer.square().mean(), weights, materialize_grads=True))

    for network in adapter.networks.values():
        network.train()
    expected = gradients()
    if {type(network).__name__ for network in adapter.networks.values()} <= UNABLE:
        with pytest.raises(UserError, match="has no activation checkpointing"):
            checkpoint_activations(adapter.networks)
        return
    checkpoint_activations(adapter.networks)
    size = max(float(each.abs().max()) for each in expected)
    assert size > 0
    for found, each in zip(gradients(), expected, strict=True):
        torch.testing.assert_close(found, each, atol=1e-5 * size, rtol=1e-4)


def test_predict_depends_on_the_prompt_and_on_time(adapter: Denoiser, condition: Condition) -> None:
    x, t = draw(adapter, 1)
    x, t = x.expand(3, *x.shape[1:]), torch.tensor([0.5, 0.5, 0.6])
    out = adapter.predict(x, t, condition, torch.tensor([0, 1, 0]))
    assert (out[0] - out[1]).abs().max() > 1e-5
    assert (out[0] - out[2]).abs().max() > 1e-5


def test_predict_does_not_depend_on_the_batch(adapter: Denoiser, condition: Condition) -> None:
    """But for the empty prompt, row 3, where prompts bring pictures: whose it has, the batch tells (`given_rows`)."""
    other = 2 if isinstance(adapter, Taking) and adapter.takes else 3
    x, t = draw(adapter, 5)
    index = torch.tensor([0, other, 1, 1, 2])
    with torch.no_grad():
        together = adapter.predict(x, t, condition, index)
        backwards = adapter.predict(x.flip(0), t.flip(0), condition, index.flip(0)).flip(0)
        alone = torch.cat([adapter.predict(x[i : i + 1], t[i : i + 1], condition, index[i : i + 1]) for i in range(5)])
        fewer = adapter.predict(x[1:4], t[1:4], select(condition, torch.tensor([other, 1, 3])), torch.tensor([0, 1, 1]))
    bound = 16 * torch.finfo(torch.float32).eps * together.abs().max()  # convolutions sum in another order
    assert (backwards - together).abs().max() <= bound
    assert (alone - together).abs().max() <= bound
    assert (fewer - together[1:4]).abs().max() <= bound


def test_gradients_reach_the_networks_and_x(adapter: Denoiser, condition: Condition) -> None:
    x, t = draw(adapter, 2)
    x.requires_grad_()
    parameters = [p for network in adapter.networks.values() for p in network.parameters() if p.requires_grad]
    loss = adapter.predict(x, t, condition, torch.tensor([0, 1])).square().mean()
    gradients = torch.autograd.grad(loss, [x, *parameters], allow_unused=True)
    assert gradients[0] is not None and gradients[0].abs().max() > 0
    reached = sum(g is not None and bool(g.abs().max() > 0) for g in gradients[1:])
    assert reached >= 0.8 * len(parameters)


def test_gradient_of_x_agrees_with_a_finite_difference(adapter: Denoiser, condition: Condition) -> None:
    x, t = draw(adapter, 2)
    index, step = torch.tensor([0, 1]), 1e-2
    weight, direction = draw(adapter, 2, seed=1)[0], draw(adapter, 2, seed=2)[0]

    def value(x: Tensor) -> Tensor:
        return (weight * adapter.predict(x, t, condition, index)).sum()

    x.requires_grad_()
    (gradient,) = torch.autograd.grad(value(x), x)
    with torch.no_grad():
        difference = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), difference, rtol=0.02, atol=1e-3)


def test_prediction_kind_and_schedule_belong_together(adapter: Denoiser) -> None:
    assert isinstance(adapter.schedule, Schedule)
    x, t = draw(adapter, 2)
    native = draw(adapter, 2, seed=1)[0]
    estimate = to_estimate(adapter.prediction, native, x, t, adapter.schedule)
    back = from_estimate(adapter.prediction, estimate, t, adapter.schedule)
    torch.testing.assert_close(back, native, atol=1e-5, rtol=1e-5)


def test_decode_gives_frames_in_range(adapter: Denoiser) -> None:
    x = draw(adapter, 3)[0]
    with torch.no_grad():
        pixels = adapter.decode(x).frames()
        alone = adapter.decode(x[1:2]).frames()
    assert pixels.shape[0] == pixels.shape[2] == 3 and pixels.dtype == torch.float32
    assert pixels.min() >= 0 and pixels.max() <= 1 and pixels.std() > 1e-3
    torch.testing.assert_close(alone[0], pixels[1], atol=1e-5, rtol=0)


def test_decode_is_differentiable(adapter: Denoiser) -> None:
    x = draw(adapter, 1)[0].requires_grad_()
    pixels = adapter.decode(x).frames()
    weight = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(2))
    (gradient,) = torch.autograd.grad((weight * pixels).sum(), x)
    step = 1e-3 / gradient.norm() * gradient
    with torch.no_grad():
        above, below = (adapter.decode(x + sign * step).frames() for sign in (1, -1))
    difference = (weight.double() * (above.double() - below.double())).sum() / 2e-3
    torch.testing.assert_close(gradient.norm(), difference.float(), rtol=0.02, atol=0)
