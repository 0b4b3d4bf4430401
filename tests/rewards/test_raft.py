"""RAFT: its parts against loops, the whole against torchvision's numbers, and how flow comes to a clip's pixels."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tiny_vision
from limner.core.errors import UserError
from limner.core.media import Videos
from limner.core.types import Prompt
from limner.judges import compose
from limner.rewards.video import search
from limner.rewards.video.flow import forth
from limner.rewards.video.raft.matching import around, enlarged, likeness
from limner.rewards.video.raft.network import LARGE, SMALL, Raft, Size

PUBLISHED = {"small": (SMALL, 990_162), "large": (LARGE, 5_257_536)}
"""Numbers of parameters that torchvision's documentation names."""


def drawn(size: Size) -> Raft:
    """Return the network with weights that do not depend on torch's generator: He's, but for small steps of flow."""
    model, rng = Raft(size).eval(), np.random.default_rng(0)
    for name, value in sorted(model.state_dict().items()):
        if name.endswith("running_var"):
            value.copy_(torch.from_numpy(1 + rng.random(value.shape)))
        elif value.ndim == 4:
            spread = math.sqrt(2 / value[0].numel()) * (0.01 if "flow_head.conv2" in name else 1)
            value.copy_(torch.from_numpy(spread * rng.standard_normal(value.shape)))
        elif value.is_floating_point():
            value.copy_(torch.from_numpy(0.01 * rng.standard_normal(value.shape)))
    return model


def pictures() -> tuple[Tensor, Tensor]:
    both = torch.from_numpy(np.random.default_rng(1).random((2, 1, 3, 128, 136))).float()
    now, then = 2 * both - 1
    return now, then


TOLD = {
    "small": (1.09642, 1.43724, 0.77412, 0.70823, 2.4235, 0.03784, 0.02914, 2.3498),
    "large": (0.14074, -0.88519, 0.38695, 0.40643, 0.49833, -0.89775, 0.21647, -0.66191),
}
"""Mean and standard deviation of x and y, and both at (20, 30) and (100, 90), by torchvision's own code."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_flow_is_torchvisions(name: str) -> None:
    """Of the published size, with the names of its weights, and equal numbers."""
    size, count = PUBLISHED[name]
    model = drawn(size)
    assert sum(p.numel() for p in model.parameters()) == count
    with torch.no_grad():
        flow = model(*pictures())[0]
    found = [*flow.mean((1, 2)), *flow.std((1, 2)), *flow[:, 20, 30], *flow[:, 100, 90]]
    np.testing.assert_allclose(found, TOLD[name], rtol=1e-3, atol=1e-3)


def test_places_are_compared_by_what_they_show() -> None:
    one, other = (torch.from_numpy(np.random.default_rng(i).standard_normal((1, 4, 16, 24))) for i in (0, 1))
    levels = likeness(one, other)
    assert [tuple(each.shape[-2:]) for each in levels] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    p, q = (3, 7), (9, 20)
    direct = float(one[0, :, 3, 7] @ other[0, :, 9, 20]) / 2
    assert levels[0][p[0] * 24 + p[1], 0, q[0], q[1]].item() == pytest.approx(direct)
    block = float((one[0, :, 3, 7] @ other[0, :, 8:16, 16:24].flatten(1)).mean()) / 2
    assert levels[3][p[0] * 24 + p[1], 0, 1, 2].item() == pytest.approx(block)


def test_around_where_a_flow_leads() -> None:
    """By loops: the map of a place, interpolated between its four neighbours, 0 outside; x before y."""
    rng = np.random.default_rng(0)
    levels = [torch.from_numpy(rng.standard_normal((16 * 16, 1, 16 // 2**k, 16 // 2**k))) for k in range(4)]
    flow = torch.from_numpy(rng.uniform(-3, 3, (1, 2, 16, 16)))
    found = around(levels, flow, 2)
    assert found.shape == (1, 4 * 25, 16, 16)

    def at(maps: Tensor, x: float, y: float) -> float:
        left, top, total = math.floor(x), math.floor(y), 0.0
        for column in (left, left + 1):
            for row in (top, top + 1):
                if 0 <= row < maps.shape[0] and 0 <= column < maps.shape[1]:
                    total += (1 - abs(x - column)) * (1 - abs(y - row)) * maps[row, column].item()
        return total

    for row, column in ((0, 0), (7, 11), (15, 4)):
        x, y = column + flow[0, 0, row, column].item(), row + flow[0, 1, row, column].item()
        expected = [
            at(levels[k][row * 16 + column, 0], x / 2**k + right, y / 2**k + down)
            for k in range(4) for right in range(-2, 3) for down in range(-2, 3)
        ]  # fmt: skip
        np.testing.assert_allclose(found[0, :, row, column], expected, atol=1e-9)


def test_a_pixels_flow_is_a_mean_of_places_near_it() -> None:
    rng = np.random.default_rng(0)
    flow, weights = (torch.from_numpy(rng.standard_normal((1, n, 3, 4))) for n in (2, 9 * 64))
    found = enlarged(flow, weights)
    assert found.shape == (1, 2, 24, 32)
    for y, x in ((0, 0), (11, 17), (23, 31)):
        (row, down), (column, right) = divmod(y, 8), divmod(x, 8)
        logits = weights[0, :, row, column].view(9, 8, 8)[:, down, right]
        share, total = torch.exp(logits) / torch.exp(logits).sum(), torch.zeros(2)
        for n in range(9):
            at, to = row + n // 3 - 1, column + n % 3 - 1
            if 0 <= at < 3 and 0 <= to < 4:
                total = total + share[n] * 8 * flow[0, :, at, to]
        torch.testing.assert_close(found[0, :, y, x], total)


def test_flow_comes_back_to_the_clips_own_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of 30 x 45 are enlarged to 152 x 232: 4 pixels there are 4 x 45 / 232 of x and 4 x 30 / 152 of y."""
    asked: list[tuple[int, ...]] = []

    class Four(nn.Module):
        def forward(self, now: Tensor, then: Tensor) -> Tensor:
            asked.append(tuple(now.shape))
            assert now.amin() >= -1 and now.amax() <= 1 and not torch.equal(now, then)
            return torch.full((1, 2, *now.shape[-2:]), 4.0)

    monkeypatch.setattr(search, "raft", lambda path: Four())
    clip = torch.rand(3, 3, 30, 45, generator=torch.Generator().manual_seed(0))
    found = forth(clip, "four.pth")
    assert found.shape == (2, 30, 45, 2) and asked == [(1, 3, 152, 232)] * 2
    np.testing.assert_allclose(found, np.broadcast_to([4 * 45 / 232, 4 * 30 / 152], found.shape), rtol=1e-5)
    assert not np.allclose(forth(clip), found)  # by the other search, which is remembered apart


def test_a_reward_names_its_network(tmp_path: Path) -> None:
    torch.save(drawn(SMALL).state_dict(), tmp_path / "raft_small.pth")
    clips = Videos(torch.rand(1, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0)), 8)
    text = f"video_warp(flow='{tmp_path / 'raft_small.pth'}') + video_dynamics(flow='{tmp_path / 'raft_small.pth'}')"
    assert compose(text)(clips, [Prompt("")]).valid.all()
    torch.save({"other": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="flow: the weights in .* do not fit"):
        compose(f"video_warp(flow='{tmp_path / 'other.pth'}')")(clips, [Prompt("")])


@pytest.mark.parametrize("name", ["raft_small_C_T_V2-01064c6d.pth", "raft_large_C_T_SKHT_V2-ff5fadd5.pth"])
@tiny_vision.needs_weights("raft_small_C_T_V2-01064c6d.pth", "raft_large_C_T_SKHT_V2-ff5fadd5.pth")
def test_the_published_networks_see_a_shift(name: str) -> None:
    noise = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    wide = nn.functional.interpolate(noise, (160, 160), mode="bicubic").clamp(0, 1)
    flow = forth(torch.cat([wide[..., 8:136, 8:136], wide[..., 8:136, 5:133]]), str(tiny_vision.WEIGHTS / name))
    assert np.abs(np.median(flow.reshape(-1, 2), 0) - [3, 0]).max() < 0.3
