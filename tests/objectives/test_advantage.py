import math
import statistics
from typing import Any

import numpy as np
import pytest
import torch

from limner.objectives.advantage import (
    best_weight,
    branch_mean,
    depth_advantage,
    generalised_advantage,
    group_advantage,
    informative,
    softmax_weight,
    tracked_advantage,
)


def reference(rewards, group, valid, scale, ddof, epsilon):
    """The definition, one group at a time, in NumPy."""
    rewards, group, valid = rewards.numpy(), group.numpy(), valid.numpy()
    advantage = np.zeros_like(rewards)
    for g in np.unique(group):
        members = valid & (group == g)
        if members.sum() == 0 or np.ptp(rewards[members]) == 0:
            continue
        pool = {"group": rewards[members], "batch": rewards[valid], "none": None}[scale]
        divisor = 1.0 if pool is None else pool.std(ddof=ddof) + epsilon
        advantage[members] = (rewards[members] - rewards[members].mean()) / divisor
    return torch.from_numpy(advantage)


def ragged(seed=0):
    generator = torch.Generator().manual_seed(seed)
    group = torch.randint(0, 9, (60,), generator=generator) * 7 - 20
    rewards = torch.randn(60, dtype=torch.float64, generator=generator) + 20
    rewards[group == -6] = 1.25
    valid = torch.rand(60, generator=generator) > 0.2
    return rewards, group, valid


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("epsilon", [1e-4, 1e-8])
def test_advantage_is_its_definition(scale, ddof, epsilon):
    settings: Any = {"scale": scale, "ddof": ddof, "epsilon": epsilon}
    for seed in range(5):
        case = ragged(seed)
        torch.testing.assert_close(group_advantage(*case, **settings), reference(*case, **settings))


HARD = {
    "offset": torch.tensor([1.7e9 + i % 5 for i in range(8)], dtype=torch.float64),
    "offset in float32": torch.tensor([1.7e9 + 128 * (i % 5) for i in range(8)]),
    "huge": torch.tensor([1e30, 2e30, 5e30, 0, -1e30, 3e30, 1e30, 1e30]),
    "nearly constant": torch.tensor([0.35] * 7 + [0.35 + 3e-8]),
    "tiny": torch.tensor([1e-30, 2e-30, 0, 0, 0, 0, 0, 0]),
}


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("epsilon", [1e-4, 1e-8])
@pytest.mark.parametrize("rewards", HARD.values(), ids=HARD)
def test_statistics_are_float64(rewards, epsilon, scale):
    """As Python's exact fractions have them; two equal groups, so that the batch has the group's deviation."""
    mean, std = statistics.fmean(rewards.tolist()), statistics.pstdev(rewards.tolist())
    expected = [(r - mean) / (1 if scale == "none" else std + epsilon) for r in rewards.tolist()]
    found = group_advantage(
        rewards.repeat(2), torch.arange(16) // 8, torch.ones(16, dtype=torch.bool), scale, 0, epsilon
    )
    assert found.dtype == rewards.dtype
    assert found.tolist() == pytest.approx(2 * expected, rel=1e-6, abs=1e-12 * max(map(abs, expected)))


@pytest.mark.parametrize("value", [0.35, 0.1, 1.7e9 + 0.1, 1e30, -1e-30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_group_is_exactly_zero(value, dtype):
    rewards = torch.full((7,), value, dtype=dtype)
    for scale in ("group", "batch", "none"):
        found = group_advantage(
            rewards, torch.zeros(7, dtype=torch.long), torch.ones(7, dtype=torch.bool), scale, 1, 1e-8
        )
        assert found.tolist() == [0.0] * 7


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("trim", [0.2, 0.5])
def test_trimmed_statistics_are_their_definition(scale, trim):
    """Mean and std are those of what is left of each group; all valid rewards are compared with them."""
    for seed in range(3):
        rewards, group, valid = ragged(seed)
        left = valid.clone()
        for g in group.unique():
            rows = sorted(((group == g) & valid).nonzero()[:, 0].tolist(), key=lambda row: rewards[row].item())
            left[rows[: int(trim * len(rows))]] = False
        expected = torch.zeros_like(rewards)
        for g in group.unique():
            members, kept = (group == g) & valid, rewards[(group == g) & left]
            if not members.any() or np.ptp(rewards[members].numpy()) == 0:
                continue
            pool = {"group": kept, "batch": rewards[left], "none": None}[scale]
            divisor = 1.0 if pool is None else pool.std(correction=0) + 1e-4
            expected[members] = (rewards[members] - kept.mean()) / divisor
        torch.testing.assert_close(group_advantage(rewards, group, valid, scale, trim=trim), expected)


def test_degrees_of_freedom_differ_by_13_percent_in_a_group_of_four():
    rewards, group, valid = torch.tensor([0.0, 0.0, 2.0, 3.0]), torch.zeros(4).long(), torch.ones(4).bool()
    population, sample = (group_advantage(rewards, group, valid, ddof=d, epsilon=0.0) for d in (0, 1))
    torch.testing.assert_close(population / sample, torch.full((4,), 2 / math.sqrt(3)))
    torch.testing.assert_close(1 - sample / population, torch.full((4,), 0.134), rtol=0, atol=1e-4)
    assert population.square().mean().item() == pytest.approx(1)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("constant", [0.0, 0.1, 1 / 3, -1e8])
def test_a_constant_group_is_exactly_zero_and_teaches_nothing(scale, constant):
    rewards = torch.tensor([constant] * 3 + [0.1, 0.7, 0.2])
    group, valid = torch.tensor([0, 0, 0, 1, 1, 1]), torch.ones(6).bool()
    advantage = group_advantage(rewards, group, valid, scale, epsilon=0.0)
    assert advantage[:3].tolist() == [0, 0, 0]
    assert advantage.isfinite().all()
    assert (advantage[3:] != 0).any()
    assert informative(rewards, group, valid).tolist() == [False] * 3 + [True] * 3


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("junk", [math.nan, math.inf, 1e6])
def test_an_invalid_sample_changes_nothing_for_the_others(scale, junk):
    rewards, group = torch.tensor([0.0, 1.0, 3.0, 2.0, 4.0]), torch.tensor([5, 5, 5, 9, 9])
    alone = group_advantage(rewards, group, torch.ones(5).bool(), scale)
    valid = torch.tensor([True, True, False, True, True, True, False])
    with_junk, groups = torch.tensor([0.0, 1.0, junk, 3.0, 2.0, 4.0, junk]), torch.tensor([5, 5, 5, 5, 9, 9, 9])
    advantage = group_advantage(with_junk, groups, valid, scale)
    assert torch.equal(advantage[valid], alone)
    assert advantage[~valid].tolist() == [0, 0]
    assert informative(with_junk, groups, valid).tolist() == valid.tolist()


def test_lonely_and_wholly_invalid_groups_are_zero():
    rewards, group = torch.tensor([1.0, 2.0, 3.0, math.nan]), torch.tensor([0, 1, 1, 1])
    valid = torch.tensor([True, True, False, False])
    for scale in ("group", "batch", "none"):
        for ddof in (0, 1):
            assert group_advantage(rewards, group, valid, scale, ddof).tolist() == [0, 0, 0, 0]
            assert group_advantage(rewards, group, torch.zeros(4).bool(), scale, ddof).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_advantage_follows_its_samples_and_not_the_names_of_groups(scale):
    rewards, group, valid = ragged()
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    advantage = group_advantage(rewards, group, valid, scale)
    torch.testing.assert_close(
        group_advantage(rewards[order], group[order], valid[order], scale), advantage[order], rtol=1e-9, atol=1e-9
    )
    torch.testing.assert_close(group_advantage(rewards, -3 * group + 11, valid, scale), advantage, rtol=1e-9, atol=1e-9)


def test_scaled_advantage_does_not_know_the_unit_of_the_reward():
    rewards, group, valid = ragged()
    for scale in ("group", "batch"):
        before = group_advantage(rewards, group, valid, scale, epsilon=0.0)
        torch.testing.assert_close(group_advantage(5 * rewards - 7, group, valid, scale, epsilon=0.0), before)


def test_best_of_each_group_by_hand():
    group = torch.tensor([3, 3, 3, 8, 8, 8, 5, 5])
    rewards = torch.tensor([1.0, 2.0, 2.0, 9.0, torch.nan, 4.0, 1.0, 1.0])
    valid = torch.tensor([True, True, True, False, False, True, True, True])
    assert best_weight(rewards, group, valid).tolist() == [0, 1, 1, 0, 0, 0, 0, 0]
    valid[3] = True
    assert best_weight(rewards, group, valid).tolist() == [0, 1, 1, 1, 0, 0, 0, 0]


def test_softmax_weight_by_hand():
    rewards = torch.tensor([0.0, 1.0, torch.nan, 3.0], dtype=torch.float64)
    valid = torch.tensor([True, True, False, True])
    odds = np.exp(0.5 * np.array([0.0, 1.0, 3.0]))
    expected = 3 * odds / odds.sum()
    found = softmax_weight(rewards, valid, 0.5)
    assert found[2] == 0 and np.allclose(found[valid], expected) and found.sum() == pytest.approx(3)
    assert softmax_weight(rewards, torch.zeros(4, dtype=torch.bool), 0.5).tolist() == [0, 0, 0, 0]


def test_tracked_advantage_by_hand():
    """A long buffer speaks for its own prompt, a short one gives way to the batch; what is equal teaches nothing."""
    rewards = torch.tensor([1.0, 4.0, float("nan"), 2.0])
    valid = torch.tensor([True, True, False, True])
    advantage = tracked_advantage(rewards, valid, [[0.0, 1.0, 5.0], [9.0, 9.0], [], [2.0, 2.0, 2.0]], 3)
    batch = np.array([1.0, 4.0, 2.0])
    expected = [(1 - 2) / (np.std([0.0, 1.0, 5.0]) + 1e-6), (4 - batch.mean()) / (batch.std() + 1e-6), 0.0, 0.0]
    torch.testing.assert_close(advantage, torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize("decay", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_generalised_advantage_is_the_weighted_mean_of_all_looks_ahead(decay, discount):
    """(1 - decay) sum_n decay^(n-1) (n-step return - V), with the rest of the weight on the whole return."""
    generator = torch.Generator().manual_seed(0)
    values, rewards = (torch.randn(3, size, generator=generator).double() for size in (6, 5))
    values[:, -1] = 0
    found = generalised_advantage(values, rewards, decay, discount)
    for k in range(5):
        looks = []
        for n in range(1, 6 - k):
            earned = sum(discount**j * rewards[:, k + j] for j in range(n))
            looks.append(earned + discount**n * values[:, k + n] - values[:, k])
        weights = [(1 - decay) * decay**n for n in range(4 - k)] + [decay ** (4 - k)]
        torch.testing.assert_close(found[:, k], sum(w * look for w, look in zip(weights, looks, strict=True)))


NODE = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 2, 2], [0, 2, 3], [4, 4, 4], [4, 4, 5], [4, 6, 6], [4, 6, 7]])


def test_depth_advantage_is_its_definition():
    """Two trees of four leaves, one reward unknown: a z-score over the different nodes of each depth, by hand."""
    rewards = torch.tensor([1.0, 2.0, 4.0, math.nan, 0.5, 0.5, 0.5, 0.5], dtype=torch.float64)
    valid, group = rewards.isfinite(), torch.tensor([7] * 4 + [3] * 4)
    own = torch.arange(8)[:, None]
    found = depth_advantage(rewards, group, valid, NODE, own == NODE, ddof=1, epsilon=0.0)
    pair = [(v - 2.75) / statistics.stdev([1.5, 4.0]) for v in (1.5, 4.0)]
    last = [(v - 7 / 3) / statistics.stdev([1.0, 2.0, 4.0]) for v in (1.0, 2.0, 4.0)]
    expected = torch.zeros(8, 3, dtype=torch.float64)
    expected[:4, 1] = torch.tensor([pair[0], pair[0], pair[1], pair[1]])
    expected[:3, 2] = torch.tensor(last)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("constant", [0.1, 347.123, 5012.7])
def test_a_tree_of_equal_rewards_teaches_nothing(constant):
    """Means of three and four equal numbers may differ by rounding, which an absolute threshold takes for a reward."""
    rewards, group = torch.full((8,), constant), torch.tensor([7] * 4 + [3] * 4)
    valid, own = torch.tensor([True] * 3 + [False] + [True] * 4), torch.arange(8)[:, None]
    assert (depth_advantage(rewards, group, valid, NODE, own == NODE) == 0).all()
    rewards[1] += constant * 1e-6
    found = depth_advantage(rewards, group, valid, NODE, own == NODE)
    assert (found[:4, 0] == 0).all() and found[1, 2] > 0.9 and (found[4:] == 0).all()


def test_branch_mean_is_the_credit_of_a_shared_decision():
    """sum over leaves of A log p(path) is the sum over decisions, each once, of its leaves x mean credit x log p."""
    advantage = torch.tensor([1.0, -2.0, 3.0, 0.5, 0.0, 0.0, 1.0, -1.0])
    mean = branch_mean(advantage[:, None].expand(8, 3), NODE, torch.ones(8))
    assert mean[:4].T.tolist() == [[0.625] * 4, [-0.5, -0.5, 1.75, 1.75], [1.0, -2.0, 3.0, 0.5]]
    log_p = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    shared = log_p[NODE, torch.arange(3)]
    leaves_below = (NODE[:, None, :] == NODE[None, :, :]).sum(1)
    once = torch.arange(8)[:, None] == NODE
    torch.testing.assert_close((advantage[:, None] * shared).sum(), (once * leaves_below * mean * log_p).sum())
    weighted = branch_mean(advantage[:, None].expand(8, 3), NODE, torch.tensor([1.0, 0, 1, 0, 0, 0, 1, 1]))
    assert weighted[0].tolist() == [2.0, 1.0, 1.0] and weighted[4, 1] == 0
