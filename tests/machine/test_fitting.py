"""A run is made to fit a card by what leaves it the same run; the command says by what."""

from __future__ import annotations

import runpy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from limner import run
from limner.algorithms.diffusion_nft import DiffusionNFT
from limner.cli import main
from limner.core.errors import UserError
from limner.diffusion.dynamics import EulerODE
from limner.engine import processes
from limner.machine import fitting, plan, ways
from limner.machine.cost import Cost, Sizes
from limner.machine.fitting import way_to_fit
from limner.machine.plan import GIB
from limner.machine.ways import Way
from limner.policies.denoising import Sampler
from limner.training.config import RunConfig

NOTHING = Cost(0, 0, 1, 1)
CONFIG = RunConfig(
    "x", algorithm=DiffusionNFT(), sampler=Sampler(EulerODE()), prompts_per_step=2, group_size=8, micro_batch=16
)


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of networks there are 5 GiB, and half a GiB for each of a pass."""
    sizes = Sizes(
        "by hand", (1,), 1, 5 * GIB, 0, 0, 0, 0, 0, 3 * 64 * 64, (1, 3, 64, 64), NOTHING, Cost(0, GIB / 2, 1, 1),
        NOTHING, NOTHING,
    )  # fmt: skip
    for module in (plan, ways):
        monkeypatch.setattr(module, "sizes", lambda config: sizes)


def test_the_cheapest_way_is_taken() -> None:
    """Of 15 GiB that 16 leave, 5 + 16 / 2 is within; of 11, 5 + 8 / 2 is."""
    assert way_to_fit(CONFIG, 16) is None
    way = way_to_fit(CONFIG, 12)
    assert way is not None and way.flags == "--micro_batch 8"


def test_the_page_has_what_the_flag_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1 FLOP each at 0.4 x 58.3 TFLOP/s nothing is left of a second; the micro-batch of 8 leads to 5 + 4 GiB."""
    place = Path(__file__).parents[2] / "benchmarks" / "plans.py"
    page: dict[str, Any] = runpy.run_path(str(place))
    told = page["fitted"]("Some", CONFIG, 12)
    assert told.startswith("| Some | 12 GB | `--micro_batch 8` | 9.0 in update | ")
    assert page["fitted"]("Some", CONFIG, 16).startswith("| Some | 16 GB | as it is | 13.0 in update | ")
    monkeypatch.setattr(
        fitting, "plan", lambda *given: SimpleNamespace(peak=SimpleNamespace(peak=13.0 * GIB, name="decode"), ways=[])
    )
    assert "12 GB | no: this run takes 13.0 GiB in decode" in page["fitted"]("Some", CONFIG, 12)


def test_another_run_is_left_to_people(monkeypatch: pytest.MonkeyPatch) -> None:
    fewer = Way({"prompts_per_step": "1"}, 1.0, "rollout", "fewer groups an iteration: another run")
    found = SimpleNamespace(peak=SimpleNamespace(peak=13.0 * GIB, name="update"), ways=[fewer])
    monkeypatch.setattr(fitting, "plan", lambda *given: found)
    with pytest.raises(UserError, match="^card 12 GB: this run takes 13.0 GiB in update, .*; --prompts_per_step 1"):
        way_to_fit(CONFIG, 12)
    found.ways = []
    with pytest.raises(UserError, match="nothing that leaves it the same run makes it fit$"):
        way_to_fit(CONFIG, 12)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Make every run fit with passes of three, and say for which card and how many processes that was asked."""
    asked: list[tuple[int, int]] = []

    def way(config: RunConfig, card: int, count: int) -> Way:
        asked.append((card, count))
        return Way({"micro_batch": "3", "sampler.keep": "host"}, 1.0, "update", "more, smaller passes")

    monkeypatch.setattr(fitting, "way_to_fit", way)
    return asked


def test_a_run_is_trained_as_it_fits(
    fits: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    seen: list[RunConfig] = []

    def train(config: RunConfig, **how: Any) -> Any:
        seen.append(config)
        return SimpleNamespace(leads=False)

    monkeypatch.setattr(run, "train", train)
    assert main(["train", "scenes", "--card", "24", "--steps", "7"]) == 0
    assert main(["train", "scenes", "--steps", "7"]) == 0
    fitted, plain = seen
    sampler: Any = plain.sampler
    assert fitted == replace(plain, micro_batch=3, sampler=replace(sampler, keep="host")) and fits == [(24, 1)]
    assert "card 24 GB: --micro_batch 3 --sampler.keep host (more, smaller passes)" in capsys.readouterr().err


@pytest.mark.parametrize("card", [["--card", "48"], ["--card=48"]])
def test_processes_are_told_what_fits(
    card: Sequence[str], fits: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan is made once, for as many as there will be."""
    told: list[list[str]] = []
    monkeypatch.setattr(processes, "together", lambda count, main, typed, preload: told.append(typed))
    assert main(["train", "scenes", *card, "--nproc", "2"]) == 0
    assert fits == [(48, 2)]
    assert told == [["train", "scenes", "--nproc", "2", "--micro_batch", "3", "--sampler.keep", "host"]]


def test_a_card_that_is_none(capsys: pytest.CaptureFixture) -> None:
    assert main(["check", "scenes", "--card", "7"]) != 0
    assert "--card is one of 12, 16, 24, 48, 80 (GB), got '7'" in capsys.readouterr().err
