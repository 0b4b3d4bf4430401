"""Two processes agree on sums, rows and gradients; one alone changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch import distributed, multiprocessing

from limner.core.errors import UserError
from limner.core.team import Team
from limner.engine.device import join
from limner.engine.optim import LossScale, Stepper

CPU = torch.device("cpu")


def loss_and_parameters(rows):
    """Return the sum of what valid rows lose, float64, and what it is a function of; every third row is invalid."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1)).double()
    inputs, valid = torch.randn(7, 3, dtype=torch.float64)[rows], torch.arange(7)[rows] % 3 > 0
    return network(inputs)[valid].square().sum(), valid.sum(), list(network.parameters())


def _member(rank, place, answers):
    distributed.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)
    team = Team(CPU, rank, 2)
    weight = torch.nn.Parameter(torch.zeros(2))
    idle = torch.nn.Parameter(torch.zeros(1))
    (weight * torch.tensor([1.0, 2.0]) * (rank + 1)).sum().backward()
    if rank == 0:
        (5 * idle).sum().backward()
    team.sum_gradients([weight, idle])
    gradients = [weight.grad.tolist(), idle.grad.tolist()]
    loss, count, parameters = loss_and_parameters(slice(0, 2) if rank == 0 else slice(2, 7))
    (loss / team.sum(count)).backward()
    team.sum_gradients(parameters)
    answers[f"exact {rank}"] = [parameter.grad.flatten().tolist() for parameter in parameters]
    weight.grad.zero_()
    stepper = Stepper({"w": weight}, lr=1.0, steps=1, team=team, scale=LossScale(8.0))
    stepper.backward(weight.sum())
    weight.grad += torch.inf if rank == 1 else 0.0
    answers[rank] = {
        "overflow": [stepper.step(), stepper.scale.value, weight.tolist()],
        "sum": team.sum(torch.tensor([1.0, rank])).tolist(),
        "rows": team.gather(torch.arange(2 + rank) + 10 * rank).tolist(),
        "flags": team.gather(torch.tensor([rank == 0])).tolist(),
        "things": team.gather_objects(["a", {"rank": rank}]),
        "none": team.gather(torch.zeros(rank, 3)).shape,
        "gradients": gradients,
    }
    team.wait()
    distributed.destroy_process_group()


def test_two_members_agree(tmp_path):
    with multiprocessing.Manager() as manager:
        answers = manager.dict()
        multiprocessing.spawn(_member, (tmp_path / "meet", answers), nprocs=2)
        first, second = answers[0], answers[1]
        shared = answers["exact 0"], answers["exact 1"]
    loss, count, parameters = loss_and_parameters(slice(0, 7))
    alone = torch.autograd.grad(loss / count, parameters)
    for gradients in shared:  # two rows beside five, and of the first one is invalid
        for found, wanted in zip(gradients, alone, strict=True):
            assert found == pytest.approx(wanted.flatten().tolist(), rel=1e-10, abs=1e-12)
    assert first == second == {
        "overflow": [None, 4.0, [0.0, 0.0]],
        "sum": [2.0, 1.0],
        "rows": [0, 1, 10, 11, 12],
        "flags": [True, False],
        "things": ["a", {"rank": 0}, "a", {"rank": 1}],
        "none": torch.Size([1, 3]),
        "gradients": [[3.0, 6.0], [5.0]],
    }  # fmt: skip


@pytest.mark.parametrize("count", range(9))
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_shares_are_all_there_is_in_order_and_differ_by_one(count, size):
    shares = [Team(CPU, rank, size).share(count) for rank in range(size)]
    assert [i for share in shares for i in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_one_alone_changes_nothing():
    team, rows = Team(), torch.randn(3, 2)
    assert team.leads and team.gather(rows) is rows
    assert torch.equal(team.sum(rows), rows.double())


def test_a_rendezvous_told_by_halves_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UserError, match="MASTER_ADDR, MASTER_PORT is not: start the processes with torchrun"):
        join(CPU)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert join(CPU) == Team(CPU)
