"""Every family predicts and learns as before when its blocks are sharded: none reads a weight outside of its block."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, distributed
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from limner.core.protocols import Denoiser
from limner.engine.blocks import blocks_of
from limner.engine.shards import whole
from limner.engine.spread import shard
from models.test_contract import ADAPTERS, PROMPTS, draw

FIXED = ("t_embedder", "context_embedder_2")
"""Of Z-Image and HunyuanImage: wide whatever the rest has, most of a miniature, and nothing of a model."""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeviceMesh]:
    """One process that shards over itself."""
    place = tmp_path_factory.mktemp("meet") / "here"
    distributed.init_process_group("gloo", init_method=f"file://{place}", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()


def learnt(adapter: Denoiser) -> tuple[Tensor, dict[str, Tensor]]:
    """Return predictions, and the gradients of their mean square."""
    condition = adapter.encode(PROMPTS[:2])
    x, t = draw(adapter, 2)
    found = adapter.predict(x, t, condition, torch.tensor([0, 1]))
    found.square().mean().backward()
    gradients = {
        f"{name}.{key}": whole(each.grad).clone()
        for name, network in adapter.networks.items()
        for key, each in network.named_parameters()
        if each.grad is not None
    }
    for network in adapter.networks.values():
        network.zero_grad()
    return found.detach(), gradients


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_a_sharded_network_is_the_same(name: str, mesh: DeviceMesh) -> None:
    adapter = ADAPTERS[name]()
    for network in adapter.networks.values():
        network.eval().requires_grad_(True)
    before, gradients = learnt(adapter)
    for part, network in adapter.networks.items():
        within = sum(each.numel() for block in blocks_of(network) for each in block.parameters())
        grows = [each for key, each in network.named_parameters() if key.split(".")[0] not in FIXED]
        assert within > sum(each.numel() for each in grows) / 2
        shard(part, network, mesh)
    after, others = learnt(adapter)
    assert torch.equal(after, before)
    torch.testing.assert_close(others, gradients, rtol=1e-5, atol=1e-7)
