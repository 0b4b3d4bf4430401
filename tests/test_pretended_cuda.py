"""The pretended device refuses what CUDA refuses, and computes what the CPU computes."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from pretended_cuda import CUDA, pretended_cuda, waits

REFUSED = {
    "sum": lambda here, there: here + there,
    "scalar of cuda beside the cpu": lambda here, there: here * there.sum(),
    "where": lambda here, there: torch.where(here > 0, there, there),
    "cat": lambda here, there: torch.cat([there, here]),
    "stack of scalars": lambda here, there: torch.stack([there[0], here[0]]),
    "index on cuda": lambda here, there: here[there.long()],
    "rows on cuda": lambda here, there: here.index_select(0, there.long()),
    "assignment": lambda here, there: there.__setitem__(here.long(), here),
    "in place": lambda here, there: there.add_(here),
    "lists": lambda here, there: torch._foreach_lerp_([there], [here], 0.5),
    "linear": lambda here, there: nn.Linear(3, 2).to(CUDA)(here),
    "numpy": lambda here, there: there.numpy(),
}
ALLOWED = {
    "copy": lambda here, there: there.copy_(here),
    "index on the cpu": lambda here, there: there[here.long()],
    "mask on the cpu": lambda here, there: there[here > 0],
    "scalar of the cpu": lambda here, there: there * here[1],
    "assignment": lambda here, there: there.index_put((here.long(),), there),
    "to another's place": lambda here, there: here.to(there) + there,
    "made there": lambda here, there: (
        torch.arange(3, device=there.device) + there.new_zeros(3) + torch.zeros_like(there)
    ),
    "module": lambda here, there: nn.SiLU().to(there.device)(there),
}


WAITED_FOR = {
    "number": lambda here, there: there.sum().item(),
    "truth": lambda here, there: bool((there > 0).any()),
    "list": lambda here, there: there.tolist(),
    "to the cpu": lambda here, there: there.to("cpu"),
    "from the cpu": lambda here, there: here.to(there.device),
    "into": lambda here, there: there.copy_(here),
    "index on the cpu": lambda here, there: there[here.long()],
    "mask": lambda here, there: there[there > 0],
    "places": lambda here, there: there.nonzero(),
    "made": lambda here, there: torch.tensor([1.0], device=there.device),
}
NOT_WAITED_FOR = {
    "sum": lambda here, there: there.sum() + 1,
    "from the cpu": lambda here, there: here.to(there.device, non_blocking=True),
    "index there": lambda here, there: there[there.long()],
    "slice": lambda here, there: there[1:, None],
    "as another kind": lambda here, there: there.to(torch.float64).to(there),
    "on the cpu": lambda here, there: (here.tolist(), here[here > 0], here.to("cpu")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cuda_refuses(name):
    with pretended_cuda() as cuda, pytest.raises((RuntimeError, TypeError), match="device"):
        REFUSED[name](torch.arange(3.0), torch.arange(3.0).to(cuda))


@pytest.mark.parametrize("name", ALLOWED)
def test_what_cuda_allows(name):
    expected = ALLOWED[name](torch.arange(3.0), torch.arange(3.0))
    with pretended_cuda() as cuda:
        found = ALLOWED[name](torch.arange(3.0), torch.arange(3.0).to(cuda))
        assert found.device == CUDA and torch.equal(found.cpu(), expected)
        assert found.cpu().device.type == "cpu" and found.tolist() == expected.tolist()


@pytest.mark.parametrize("name", [*WAITED_FOR, *NOT_WAITED_FOR])
def test_it_tells_what_would_be_waited_for(name):
    with pretended_cuda() as cuda:
        here, there = torch.arange(3.0), torch.arange(3.0).to(cuda)
        for calls, expected in ((WAITED_FOR, True), (NOT_WAITED_FOR, False)):
            if name in calls:
                with waits() as found:
                    calls[name](here, there)
                assert bool(found) == expected


def test_a_module_trains_there():
    def gradient(device):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(3, 4), nn.SiLU(), nn.Linear(4, 1)).to(device)
        other = copy.deepcopy(network)
        x = torch.ones(2, 3, device=device)
        loss = checkpoint(network, x, use_reentrant=False).square().sum() + other(x).sum()
        loss.backward()
        torch.optim.AdamW(network.parameters(), foreach=True).step()
        assert all(p.device.type == p.grad.device.type == torch.device(device).type for p in network.parameters())
        return [p.detach().cpu() for p in (*network.parameters(), *other.parameters())]

    expected = gradient("cpu")
    with pretended_cuda():
        found = gradient("cuda")
    assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))


def test_a_file_holds_plain_tensors():
    file = io.BytesIO()
    with pretended_cuda() as cuda:
        torch.save({"weight": nn.Linear(2, 2).to(cuda).weight}, file)
    file.seek(0)
    assert type(torch.load(file, weights_only=True)["weight"]) is torch.Tensor
