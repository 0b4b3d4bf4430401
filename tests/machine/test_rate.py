"""Seconds and cost of a run, from operations by hand and a rate that is said."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.cli import main
from limner.diffusion.dynamics import EulerODE
from limner.machine import plan as module
from limner.machine.cost import Cost, Sizes
from limner.machine.known import once, remembering
from limner.machine.plan import as_json, plan, text
from limner.machine.rate import rate
from limner.policies.denoising import Sampler
from limner.training.config import Evaluation, RunConfig
from limner.training.snapshots import Snapshots

TERA = 10**12
SIZES = Sizes(
    "by hand", (1,), 1, 1000, 0, 0, 0, 0, 0, 3 * 64 * 64, (1, 3, 64, 64),
    sampling=Cost(0, 0, 4 * TERA, 2), learning=Cost(0, 0, 3 * TERA, 1), decoding=Cost(0, 0, TERA),
    encoding=Cost(0, 0, 0),
)  # fmt: skip
CONFIG = RunConfig(
    "x", algorithm=DiffusionNFT(num_times=2), sampler=Sampler(EulerODE(), steps=5), prompts_per_step=2, group_size=8,
    steps=90,
)  # fmt: skip


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "sizes", lambda config: SIZES)
    monkeypatch.setattr(module, "libraries", lambda reward: 0.0)


def test_seconds_by_phase() -> None:
    """At 1 TFLOP/s: 16 samples of 5 steps, each 4; 16 decoded, each 1; 16 x 2 noised samples learnt from, each 3."""
    found = plan(CONFIG, 24, tflops=1.0, price=2.0)
    assert (found.seconds.rollout, found.seconds.decode, found.seconds.update) == (16 * 5 * 4, 16, 16 * 2 * 3)
    assert found.seconds.run == 90 * 432 and found.seconds.cost(2.0) == pytest.approx(90 * 432 / 3600 * 2)
    said = text(found)
    assert "an iteration 432: rollout 320, decode 16, update 96; all evaluations 0" in said
    assert "the run 10.8 hours, and costs 21.60 at 2 an hour of each" in said and "1 TFLOP/s, as given" in said
    told = as_json(found)
    assert told["seconds"]["iteration"] == 432 and told["cost"] == pytest.approx(21.6)
    two = plan(CONFIG, 24, processes=2, tflops=1.0)
    assert two.seconds.iteration == 216 and two.seconds.cost(2.0) == found.seconds.cost(2.0)
    assert as_json(two)["cost"] is None and "hours on each of 2 devices" in text(two)


def test_what_is_drawn_to_evaluate_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 7 prompts 3 seeds, before and after: 42 samples of 5 steps, an evaluation 2 each, and 1 to decode."""
    monkeypatch.setattr(module, "load_prompts", lambda source: [None] * 7)
    config = replace(CONFIG, evaluation=Evaluation("some", seeds=3))
    found = plan(config, 24, tflops=1.0)
    assert found.seconds.evaluation == 42 * 5 * 2 + 42
    assert found.seconds.run == 90 * 432 + 462 and found.total(found.flops) == found.seconds.run * TERA


def test_snapshots_count_once_and_every_process_draws_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sheets after 0, 20, 40, 60 and 80 of 90 iterations, of 4 prompts, 2 seeds each: 5 x 8 samples of 5 x 2 + 1."""
    config = replace(CONFIG, snapshots=Snapshots(every=20, seeds=2))
    for processes in (1, 2):
        found = plan(config, 24, processes, tflops=1.0)
        assert found.seconds.snapshots == pytest.approx(40 * 11)
        assert found.seconds.run == pytest.approx(90 * 432 / processes + 440)
        assert found.evaluations["snapshots"] == processes * 40 * 5
        assert found.total(found.flops) == (90 * 432 + processes * 440) * TERA
        said = text(found)
        assert f"0 to evaluate, {processes * 200} for snapshots:" in said
        assert "all evaluations 0, all snapshots 440" in said
    monkeypatch.setattr(module, "load_prompts", lambda source: [None] * 3)
    config = replace(config, evaluation=Evaluation("some", seeds=3))
    assert plan(config, 24, tflops=1.0).seconds.snapshots == 5 * 3 * 2 * 11
    assert plan(CONFIG, 24, tflops=1.0).seconds.snapshots == 0 and "snapshots" not in text(plan(CONFIG, 24))


def test_a_card_is_assumed_to_reach_a_share_of_its_peak() -> None:
    half, full = rate(24, "bfloat16"), rate(24, "float32")
    assert half.networks == pytest.approx(0.4 * 165.2e12) and full.networks == pytest.approx(0.4 * 82.6e12)
    assert half.decoder == full.decoder == full.networks  # decoders are float32 whatever networks are
    assert "40% of the peak of a RTX 4090, 165.2 TFLOP/s in bfloat16" in half.said and "assumed" in half.said
    assert rate(None, "float16") == replace(rate(80, "bfloat16"), said=rate(None, "float16").said)


def test_of_a_cpu_nothing_is_assumed() -> None:
    config = replace(CONFIG, device="cpu")
    found = plan(config)
    assert "of a CPU nothing is assumed" in text(found) and as_json(found)["seconds"] is None
    assert as_json(plan(config, tflops=0.1))["seconds"]["iteration"] == pytest.approx(4320)


def test_the_command_asks_for_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("plan scenes --card 12 --tflops 50 --price 0.5 --json".split()) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert told["rate"]["networks"] == 5e13 and told["cost"] == pytest.approx(told["seconds"]["run"] / 3600 * 0.5)
    assert main("plan scenes --tflops 0".split()) == 2
    assert "needs a number above 0" in capsys.readouterr().err


def test_what_is_known_is_not_measured_again() -> None:
    """Inside, by all that it depends on; afterwards nothing is known."""
    calls: list[int] = []

    def measure() -> int:
        calls.append(1)
        return len(calls)

    assert [once(("a",), measure), once(("a",), measure)] == [1, 2]
    with remembering():
        assert [once(("a", 1), measure), once(("a", 1), measure), once(("a", 2), measure)] == [3, 3, 4]
        with remembering():
            assert once(("a", 1), measure) == 3
        assert once(("a", 1), measure) == 3
    with remembering():
        assert once(("a", 1), measure) == 5
