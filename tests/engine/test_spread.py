"""Four processes that hold a part of the weights each learn what one would, though their work is uneven."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from limner.core.errors import UserError
from limner.core.team import ALONE, Over, Team
from limner.engine import spread as module
from limner.engine.count import count_evaluations
from limner.engine.device import join
from limner.engine.ema import Ema
from limner.engine.full import full
from limner.engine.lora import lora
from limner.engine.optim import Stepper
from limner.engine.precision import Precision
from limner.engine.processes import together
from limner.engine.shards import gathered, made_whole, own
from limner.engine.spread import require_torch, spread
from limner.engine.weights import Weights
from limner.machine.cut import cut, held
from limner.recipes.named import recipe
from limner.recipes.override import override
from limner.training.spread import loaded_on

ROWS = ((), (0, 1, 2), (3,), (4, 5, 6))
"""Which rows of data each process has: the first has none, the third one of them, of one expert."""
SHARES: Mapping[Over, int] = {"all": 4, "machine": 2}
"""In how many parts weights are cut."""
CAP, STEPS = 0.5, 2
DTYPES = (torch.bfloat16, torch.float32, torch.float32, torch.float32)
"""Of the buffer of each process's network, before all have the first one's."""
WIDE, INNER = 250, r"blocks\.\d\.0"
"""Rows of the layers of wide blocks, of which four processes do not have equally many, and names of these layers."""
BLOCK = 4 * (WIDE**2 + WIDE)
"""Bytes of such a block."""
LATE = 1.25 * BLOCK
"""What is there for a moment where others are late: a block still to be freed, and what was made of it."""


class Expert(nn.Module):
    """Two blocks, and a layer before and after them."""

    def __init__(self, width: int = 16, blocks: int = 2) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(3, width), nn.Linear(width, 3)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(width, width), nn.Tanh()) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        for block in self.blocks:
            x = x + block(x)
        return self.after(x)


def experts() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {name: Expert() for name in ("first", "second")}


def learn(weights: Weights, team: Team, rows: tuple[int, ...], evaluations: Callable[[], int]) -> dict[str, Any]:
    """Take two optimizer steps on `rows`, each a pass of its own of the expert that its number asks; return all state.

    A row's loss reads the expert once with gradients, or twice, and the reference without.
    """
    policy, reference = (weights.networks(name, Precision()) for name in ("policy", "reference"))
    stepper = Stepper(weights.parameters(), lr=0.1, steps=STEPS, max_grad_norm=CAP, team=team)
    ema = Ema(weights.parameters(), 0.5)
    data = torch.randn(7, 3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():  # as a dry run does: all have seen something
        policy["first"](data[:1])
    norms = []
    for _ in range(STEPS):
        for row in rows:
            name = ("first", "second")[row % 2]
            found = policy[name](data[row : row + 1])
            with torch.no_grad():
                wanted = reference[name](data[row : row + 1]) + 1
            if row % 3 == 2:
                found = found + policy[name](2 * data[row : row + 1])
            stepper.backward((found - wanted).square().sum() / 7)
        norms.append(stepper.step())
        ema.update()
        weights.blend_old(0.5)
    with ema.swapped(), torch.no_grad():
        averaged = [policy["second"](data[row : row + 1]).tolist() for row in rows]
        team.meet()
    return {
        "weights": gathered(weights.state(), team),
        "stepper": gathered(stepper.state(), team),
        "ema": gathered(ema.state(), team),
        "norms": norms,
        "averaged": team.gather_objects(averaged),
        "evaluations": int(team.sum(torch.tensor(evaluations()))),
    }


def bytes_here(weights: Weights) -> int:
    """Return what this process holds of the weights of all roles."""
    return sum(
        own(each).nbytes
        for role in weights.roles.values()
        for network in role.networks.values()
        for each in network.parameters()
    )


def taken(run: Callable[[], object]) -> int:
    """Return the most bytes that tensors of this process took at once beyond those that were there before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    assert profiled.profiler is not None and profiled.profiler.kineto_results is not None
    every = [each.nbytes() for each in profiled.profiler.kineto_results.events() if each.name() == "[memory]"]
    return max(accumulate(every))


def passes(team: Team, learning: str) -> dict[str, int]:
    """Return what a process holds of a network of wide blocks, and what passes with one row take beside it."""
    networks = {"wide": Expert(WIDE, 4)}
    if learning == "full":
        weights = full(networks, reference=True, old=False)
    else:
        weights = lora(networks, rank=8, alpha=8, targets=(), pattern=INNER, seed=0, old=True, precision=Precision())
    every = held(network for role in weights.roles.values() for network in role.networks.values())
    weights, company = spread(weights, "all", Precision(), team)
    (network,) = weights.networks("policy", Precision()).values()

    def forward() -> None:
        with torch.no_grad():
            network(torch.ones(1, 3))

    def backward() -> None:
        company.backward(network(torch.ones(1, 3)).sum())

    backward()  # so that gradients are there, to which others are added
    found = {"forward": taken(forward), "backward": taken(backward)}
    parameters = {id(p): p for role in weights.roles.values() for n in role.networks.values() for p in n.parameters()}
    found["held"] = sum(own(each).untyped_storage().nbytes() for each in parameters.values())
    found["trained"] = sum(own(each).untyped_storage().nbytes() // 4 for each in weights.policy.values())
    told = cut(every, team.size, 0)
    return {**found, "told held": told.networks + told.lora, "told trained": told.trained} | {
        f"told {name}": number for name, number in (("forward", told.forward), ("backward", told.backward))
    }


def received(team: Team) -> dict[str, Any]:
    """Spread networks of which all but the leader have no numbers; of its blocks each process has two of eight."""
    torch.manual_seed(team.rank)
    networks: dict[str, nn.Module] = {"wide": Expert(WIDE, 8)}
    networks["wide"].register_buffer("level", torch.full((2,), team.rank, dtype=DTYPES[team.rank]))
    first = {f"wide.{name}": each.detach().clone() for name, each in networks["wide"].named_parameters()}
    for place in networks["wide"].modules() if team.rank else ():
        for key, each in list(place.named_parameters(recurse=False)):
            place.register_parameter(key, nn.Parameter(each.detach().to("meta")))
    weights, spreads = full(networks, reference=False, old=False), list[tuple[Weights, Team]]()
    most = taken(lambda: spreads.append(spread(weights, "all", Precision(), team)))
    ((weights, company),) = spreads
    level = networks["wide"].get_buffer("level")
    found = gathered(weights.state(), company)["policy"]
    return {"taken": most, "held": bytes_here(weights), "level": level, "first": first, "weights": found}


def _member(arguments: list[str]) -> int:
    """Be one of four, two to a machine."""
    os.environ["LOCAL_WORLD_SIZE"] = "2"
    folder, rank, team = Path(arguments[0]), int(os.environ["RANK"]), join(torch.device("cpu"))
    for over in SHARES:
        networks = experts()
        evaluations = count_evaluations(networks)
        weights, company = spread(full(networks, reference=True, old=True), over, Precision(), team)
        found = {**learn(weights, company, ROWS[rank], evaluations), "bytes": bytes_here(weights)}
        with made_whole(networks.values(), company):
            found["exported"] = [network.state_dict() for network in networks.values()] if team.leads else []
        found["kinds"] = [type(network).__name__ for network in networks.values()]
        torch.save(found, folder / f"{over}-{rank}.pt")
    torch.save({learning: passes(team, learning) for learning in ("lora", "full")}, folder / f"passes-{rank}.pt")
    torch.save(received(team), folder / f"received-{rank}.pt")
    team.wait()
    return 0


@pytest.fixture(scope="module")
def alone() -> Mapping[str, Any]:
    """What one process finds."""
    networks = experts()
    evaluations = count_evaluations(networks)
    weights = full(networks, reference=True, old=True)
    found = learn(weights, ALONE, tuple(range(7)), evaluations)
    return {**found, "bytes": bytes_here(weights), "exported": [each.state_dict() for each in networks.values()]}


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where each of four processes has left what it found."""
    folder = tmp_path_factory.mktemp("four")
    together(4, _member, [str(folder)], "limner.engine.spread")
    return folder


@pytest.mark.parametrize("over", ["all", "machine"])
def test_four_that_share_the_weights_are_one(over: Over, alone: Mapping[str, Any], four: Path) -> None:
    first, *others = (torch.load(four / f"{over}-{rank}.pt") for rank in range(4))
    for name in ("weights", "stepper", "ema", "averaged", "exported"):
        torch.testing.assert_close(first[name], alone[name], rtol=0, atol=2e-6)
    assert max(alone["norms"]) > CAP
    assert first["norms"] == pytest.approx(alone["norms"], rel=1e-5)
    assert first["evaluations"] == alone["evaluations"] + 3  # the dry run's of each; none for others' sake
    assert first["kinds"] == ["Expert", "Expert"]
    for each in (first, *others):
        assert each["norms"] == first["norms"]
        assert each["bytes"] < 1.1 * alone["bytes"] / SHARES[over]  # of three rows one process has none
    assert sum(each["bytes"] for each in (first, *others)) == alone["bytes"] * 4 // SHARES[over]


@pytest.mark.parametrize("learning", ["lora", "full"])
def test_a_plan_says_what_a_process_takes(learning: str, four: Path) -> None:
    """Parts to the byte; what passes bring together as far as a row's activations, of a few KiB, are not all."""
    for rank in range(4):
        found = torch.load(four / f"passes-{rank}.pt")[learning]
        assert found["held"] == found["told held"] and found["trained"] == found["told trained"]
        assert found["told forward"] < found["forward"] < 1.03 * found["told forward"] + LATE
        assert 0.97 * found["told backward"] < found["backward"] < 1.03 * found["told backward"] + LATE


def test_one_process_reads_and_sends(four: Path) -> None:
    """What all have are the first one's numbers; others never held more than two blocks beside their parts."""
    first, *others = (torch.load(four / f"received-{rank}.pt") for rank in range(4))
    torch.testing.assert_close(first["weights"], first["first"], rtol=0, atol=0)
    for each in others:
        assert torch.equal(each["level"], torch.zeros(2, dtype=torch.bfloat16))
        assert each["taken"] < each["held"] + 1.75 * BLOCK + LATE < 0.8 * 8 * BLOCK


def test_a_torch_that_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is loaded: that of pyproject's minimum lacks a method."""

    class Older:
        def set_gradient_divide_factor(self) -> None: ...

    require_torch()
    monkeypatch.setattr(module, "FSDPModule", Older)
    with pytest.raises(UserError, match="^shard: torch .* has no FSDPModule.set_force_sum_reduction_for_comms"):
        loaded_on(override(recipe("scenes"), {"shard": "all"}), Team(size=2))
    assert loaded_on(recipe("scenes"), Team(size=2)) == Team().device


def test_a_process_alone_keeps_what_it_has() -> None:
    weights = full(experts(), reference=False, old=False)
    assert spread(weights, "all", Precision(), ALONE) == (weights, ALONE)


def test_machines_of_unequal_numbers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    weights = full(experts(), reference=False, old=False)
    with pytest.raises(UserError, match="^shard machine: 3 processes are here, and 4 in all are no multiple of that"):
        spread(weights, "machine", Precision(), Team(size=4))
