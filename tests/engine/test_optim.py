import math
import sys
from copy import deepcopy

import pytest
import torch
from torch import nn

from limner.core.errors import RunError, UserError
from limner.engine.optim import MOMENT_BYTES, PATIENCE, LossScale, Stepper, lr_factor


def network(seed=0, width=8):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, width if width > 8 else 1))


def loss_of(net, step, scale=1.0):
    x = torch.randn(16, 3, generator=torch.Generator().manual_seed(step))
    return scale * (net(x) - x.sum(1, keepdim=True)).square().mean()


def stepper_of(net, **options):
    return Stepper(dict(net.named_parameters()), **{"lr": 1e-2, "steps": 20, **options})


def test_learning_rate_values():
    constant = [lr_factor(s, warmup=4, schedule="constant", steps=8) for s in range(8)]
    assert constant == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]
    cosine = [lr_factor(s, warmup=2, schedule="cosine", steps=6) for s in range(8)]
    half = math.sqrt(0.5) / 2
    assert cosine == pytest.approx([0.5, 1, 1, 0.5 + half, 0.5, 0.5 - half, 0, 0])
    linear = [lr_factor(s, warmup=2, schedule="linear", steps=6) for s in range(8)]
    assert linear == [0.5, 1, 1, 0.75, 0.5, 0.25, 0, 0]
    assert lr_factor(0, warmup=0, schedule="cosine", steps=1) == 1
    assert lr_factor(9, warmup=9, schedule="cosine", steps=9) == 1


def test_steps_are_adamw_on_summed_clipped_gradients():
    net, other = network(), network()
    stepper = stepper_of(net, warmup=3, schedule="cosine", weight_decay=0.1, betas=(0.8, 0.9), max_grad_norm=0.5)
    reference = torch.optim.AdamW(other.parameters(), 1e-2, (0.8, 0.9), weight_decay=0.1, foreach=False)
    for step in range(6):
        stepper.backward(loss_of(net, 2 * step))
        stepper.backward(loss_of(net, 2 * step + 1))
        norm = stepper.step()
        reference.zero_grad()
        (loss_of(other, 2 * step) + loss_of(other, 2 * step + 1)).backward()
        gradients = torch.cat([p.grad.flatten() for p in other.parameters()])
        assert norm == pytest.approx(gradients.norm().item(), rel=1e-5)
        for p in other.parameters():
            p.grad *= min(1.0, 0.5 / gradients.norm().item())
        reference.param_groups[0]["lr"] = 1e-2 * lr_factor(step, warmup=3, schedule="cosine", steps=20)
        reference.step()
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cap", [0.1, math.inf])
def test_clip_scales_the_gradient_to_the_cap(cap):
    parameter = nn.Parameter(torch.tensor([1.0, 2.0]))
    stepper = Stepper({"w": parameter}, lr=0.0, steps=1, max_grad_norm=cap)
    seen = []
    stepper.optimizer.register_step_pre_hook(lambda *_: seen.append(parameter.grad.clone()))
    stepper.backward((parameter * torch.tensor([3.0, 4.0])).sum())
    assert stepper.step() == pytest.approx(5)
    torch.testing.assert_close(seen[0], torch.tensor([3.0, 4.0]) * min(1, cap / 5), rtol=1e-5, atol=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_step_with_a_loss_that_is_not_finite_is_skipped_and_counted(bad):
    net = network()
    stepper = stepper_of(net)
    before = deepcopy(net.state_dict())
    stepper.backward(loss_of(net, 0))
    stepper.backward(loss_of(net, 1, bad))
    stepper.backward(loss_of(net, 2))
    assert stepper.step() is None
    assert (stepper.num_steps, stepper.num_skipped) == (1, 1)
    assert all(torch.equal(p, before[name]) for name, p in net.state_dict().items())
    assert not stepper.optimizer.state
    clean = network()
    other = stepper_of(clean)
    for n, s in ((net, stepper), (clean, other)):
        s.backward(loss_of(n, 3))
        assert s.step() is not None
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), clean.parameters(), strict=True))
    assert stepper.skipped_in_row == 0


def test_a_gradient_that_is_not_finite_is_skipped():
    parameter = nn.Parameter(torch.zeros(2))
    stepper = Stepper({"w": parameter}, lr=1.0, steps=1)
    loss = parameter.sqrt().sum()
    assert loss.isfinite()
    stepper.backward(loss)
    assert stepper.step() is None
    assert torch.equal(parameter, torch.zeros(2))


def test_five_skipped_steps_in_a_row_stop_the_run():
    net = network()
    stepper = stepper_of(net)
    for bad in (1, 1, 1, 1, 0, 1, 1, 1, 1):
        stepper.backward(loss_of(net, 0, math.nan if bad else 1.0))
        stepper.step()
    stepper.backward(loss_of(net, 0, math.inf))
    with pytest.raises(RunError, match="5 optimizer steps in a row.*up to step 9: the loss is inf"):
        stepper.step()
    assert (stepper.num_steps, stepper.num_skipped) == (10, 9)


def test_eight_bits_follow_adamw_in_a_quarter_of_the_memory():
    """Down a bowl, as far as 32 bits go within a few percent, from moments of one byte."""
    pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    start, aim = torch.randn(2, 128, 64)
    found = {}
    for kind in ("adamw", "adamw8bit"):
        weight = nn.Parameter(start.clone())
        stepper = Stepper({"w": weight}, lr=3e-2, steps=40, weight_decay=0.1, kind=kind, schedule="linear")
        for _ in range(40):
            stepper.backward((weight - aim).square().sum())
            stepper.step()
        (kept,) = stepper.optimizer.state.values()
        found[kind] = (weight.detach(), sum(kept[name].nbytes for name in kept if name in MOMENTS))
    (exact, whole), (near, small) = found.values()
    assert (near - exact).norm() < 0.05 * (exact - start).norm()
    assert whole == 8 * start.numel() == start.numel() * MOMENT_BYTES["adamw"]
    assert small == start.numel() * MOMENT_BYTES["adamw8bit"]


MOMENTS = ("exp_avg", "exp_avg_sq", "state1", "state2", "absmax1", "absmax2")
"""What AdamW keeps of each number, here and there."""


def test_eight_bits_without_their_package_are_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(UserError, match=r"pip install 'limner\[8bit\]'"):
        stepper_of(network(), kind="adamw8bit")


@pytest.mark.parametrize("options", [{}, {"schedule": "cosine"}, {"schedule": "linear", "kind": "adamw8bit"}])
def test_resume_is_bit_identical(tmp_path, options):
    if "kind" in options:
        pytest.importorskip("bitsandbytes")
    width = 1024 if "kind" in options else 8  # smaller tensors keep 32 bits

    def go(net, stepper, steps):
        for step in steps:
            stepper.backward(loss_of(net, step, math.nan if step == 4 else 1.0))
            stepper.step()

    options = options | {"warmup": 3, "weight_decay": 0.01, "max_grad_norm": 0.3}
    whole, first, second = network(0, width), network(0, width), network(9, width)
    go(whole, stepper_of(whole, **options), range(12))
    interrupted = stepper_of(first, **options)
    go(first, interrupted, range(5))
    torch.save({"net": first.state_dict(), "stepper": interrupted.state()}, tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed = stepper_of(second, **options)
    second.load_state_dict(state["net"])
    resumed.load_state(state["stepper"])
    assert (resumed.num_steps, resumed.num_skipped, resumed.skipped_in_row) == (5, 1, 1)
    go(second, resumed, range(5, 12))
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), second.parameters(), strict=True))


def test_a_scaled_loss_gives_the_same_steps_and_survives_its_state():
    """A power of two changes no digit; after PATIENCE steps without an overflow the scale is doubled."""
    plain, scaled = (nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2))
    steppers = [
        Stepper({"w": plain}, lr=0.1, steps=9),
        Stepper({"w": scaled}, lr=0.1, steps=9, scale=LossScale(256.0, PATIENCE - 2)),
    ]
    for _ in range(3):
        for stepper, each in zip(steppers, (plain, scaled), strict=True):
            stepper.backward((each.square() * torch.tensor([1.0, 3e-3])).sum())
        assert steppers[0].step() == steppers[1].step()
    assert torch.equal(plain, scaled) and steppers[1].scale == LossScale(512.0, 1)
    again = Stepper({"w": scaled}, lr=0.1, steps=9, scale=LossScale())
    again.load_state(steppers[1].state())
    assert again.scale == LossScale(512.0, 1) and "scale" not in steppers[0].state()


def test_an_overflow_skips_the_step_and_halves_the_scale_until_it_is_not_the_scales_fault():
    parameter = nn.Parameter(torch.ones(1))
    stepper = Stepper({"w": parameter}, lr=0.1, steps=99, scale=LossScale(2.0**12))
    for halved in range(12):
        stepper.backward((parameter.half() * 60_000).float().sum())
        parameter.grad.fill_(torch.inf)
        assert stepper.step() is None and stepper.scale.value == 2.0 ** (11 - halved)
    assert parameter.item() == 1.0 and stepper.num_skipped == 12 and stepper.skipped_in_row == 0
    with pytest.raises(RunError, match="the gradient norm is inf"):
        for _ in range(stepper.max_skipped_in_row):
            stepper.backward(parameter.sum())
            parameter.grad.fill_(torch.inf)
            stepper.step()


def test_gradients_that_float16_loses_are_kept_by_the_scale():
    """2^-25 is 0 in float16, and 2^-25 x 2^16 is not."""
    found = []
    for scale in (None, LossScale()):
        parameter = nn.Parameter(torch.ones(1))
        stepper = Stepper({"w": parameter}, lr=0.1, steps=9, scale=scale, max_grad_norm=math.inf)
        stepper.backward(parameter.half().float().sum() * 2.0**-25)
        found.append(stepper.step())
    assert found == [0.0, 2.0**-25]
