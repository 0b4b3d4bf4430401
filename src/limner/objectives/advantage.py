"""From rewards to advantages: how much better a sample is than the others drawn for the same prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, assert_never

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

AdvantageScale: TypeAlias = Literal["group", "batch", "none"]
TreeScale: TypeAlias = Literal["group", "batch", "none", "depth"]
"""Also the standard deviation of each depth of a tree of samples; see `depth_advantage`."""


def group_advantage(
    rewards: Float[Tensor, " batch"],
    group: Int[Tensor, " batch"],
    valid: Bool[Tensor, " batch"],
    scale: AdvantageScale = "group",
    ddof: int = 0,
    epsilon: float = 1e-4,
    trim: float = 0.0,
) -> Float[Tensor, " batch"]:
    """Return (reward - mean of its group) / (std + epsilon), without a unit; invalid samples and constant groups get 0.

    `scale` says whose std divides: the group's, that of all valid rewards of the batch, or none (then no epsilon
    either). The variance divides by count - ddof. Groups are ids, in any order and of any size; an invalid sample (its
    reward may be NaN) takes no part in any statistic.

        published            scale             ddof   epsilon
        Flow-GRPO, NFT       group or batch    0      1e-4
        DanceGRPO, MixGRPO   group             1      1e-8
        Dr.GRPO              none              -      -
        TRL                  any of the three  1      1e-4
        Flow-Factory         group or batch    0      1e-6, as the least divisor: the same but for 1e-6 / std

    `trim` leaves the lowest floor(trim n) of a group's n valid rewards out of its statistics, not out of the result
    (an option of MixGRPO's code).

    Statistics are float64: in float32 the mean of rewards near 1.7e9 is wrong by 100, and 1e30 has no square.

    ddof is no detail: at group size 4 it changes the advantage by a factor of sqrt(3) / 2, that is by 13 %.

    Source: Flow-GRPO, arXiv:2505.05470; DanceGRPO, arXiv:2505.07818; Dr.GRPO, arXiv:2503.20783, section 3; the table is
    of their published code.
    """
    index = _dense(group)
    counted = _without_lowest(rewards, index, valid, trim) if trim else valid
    exact = rewards.double()
    count = _group_sum(counted.double(), index)
    mean = _group_sum(torch.where(counted, exact, 0), index) / count.clamp(min=1)
    centred = torch.where(valid, exact - mean[index], 0)
    match scale:
        case "group":
            variance = _group_sum(centred**2 * counted, index) / (count - ddof).clamp(min=1)
            divisor = variance.sqrt()[index] + epsilon
        case "batch":
            total = count.sum()
            overall = torch.where(counted, exact, 0).sum() / total.clamp(min=1)
            variance = torch.where(counted, exact - overall, 0).square().sum() / (total - ddof).clamp(min=1)
            divisor = variance.sqrt() + epsilon
        case "none":
            divisor = torch.ones_like(mean[index])
        case _:
            assert_never(scale)
    return torch.where(informative(rewards, group, valid), centred / divisor, 0).to(rewards.dtype)


def branch_mean(
    values: Float[Tensor, "batch steps *places"], node: Int[Tensor, "batch steps"], weight: Float[Tensor, " batch"]
) -> Float[Tensor, "batch steps *places"]:
    """Return the weighted mean of each step's values over the samples that share its decision; 0 where none weighs.

    Samples share a decision if they have the same `node` in its column. In the gradient of the expected reward a shared
    decision has the sum of their credits; the mean makes all decisions of a tree weigh alike, as BranchGRPO's do.
    """
    batch, steps = node.shape
    index = _dense((node * steps + torch.arange(steps)).flatten())
    weights = weight[:, None].expand(batch, steps).flatten()
    mass = _group_sum(weights, index).clamp(min=torch.finfo(weights.dtype).tiny)
    flat = values.reshape(batch * steps, -1)
    total = _group_sum(torch.where(weights[:, None] > 0, flat, 0) * weights[:, None], index)
    return (total / mass[:, None])[index].view(values.shape)


def depth_advantage(
    rewards: Float[Tensor, " batch"],
    group: Int[Tensor, " batch"],
    valid: Bool[Tensor, " batch"],
    node: Int[Tensor, "batch steps"],
    mask: Bool[Tensor, "batch steps"],
    ddof: int = 1,
    epsilon: float = 1e-8,
) -> Float[Tensor, "batch steps"]:
    """Return the advantage of the decisions of trees of samples: (value - mean) / (std + epsilon) at each depth.

    The value of a decision is the mean reward of the valid samples below it; mean and std (count - ddof) are those of
    the different decisions at its depth in its tree, of which `mask` marks each once. A decision above no valid sample
    gets 0, and so do a tree of equal rewards and a depth of equal values, above the first split for example: one whose
    std is below 1e-9 of the tree's range of rewards, which is rounding in float64. (The published code has 1e-6,
    whatever the scale of the rewards.)
    Source: BranchGRPO, arXiv:2509.06040, and its published code.
    """
    batch, steps = node.shape
    index, weight = _dense(group), valid.double()
    value = branch_mean(rewards.double()[:, None].expand(batch, steps), node, weight)
    known = branch_mean(weight[:, None].expand(batch, steps), node, torch.ones_like(weight)) > 0
    once = (known & mask).double()
    tree = torch.zeros(batch, steps, dtype=torch.float64)
    count = tree.index_add(0, index, once)
    mean = tree.index_add(0, index, once * value) / count.clamp(min=1)
    centred = value - mean[index]
    std = (tree.index_add(0, index, once * centred.square()) / (count - ddof).clamp(min=1)).sqrt()[index]
    low, high = _extremes(rewards, index, valid)
    differ = (low < high)[:, None] & (std > 1e-9 * (high - low).double()[:, None])
    return torch.where(known & differ, centred / (std + epsilon), 0).to(rewards.dtype)


def informative(
    rewards: Float[Tensor, " batch"], group: Int[Tensor, " batch"], valid: Bool[Tensor, " batch"]
) -> Bool[Tensor, " batch"]:
    """Return which samples teach something: valid, in a group whose valid rewards are not all equal.

    Equality is exact, decided on the rewards themselves: a rounded mean would leave 1e-8 / epsilon of pure noise.
    Source: the zero-advantage filter of Flow-GRPO's code; dynamic sampling of DAPO, arXiv:2503.14476.
    """
    low, high = _extremes(rewards, _dense(group), valid)
    return valid & (low < high)


def _without_lowest(
    rewards: Float[Tensor, " batch"], index: Int[Tensor, " batch"], valid: Bool[Tensor, " batch"], share: float
) -> Bool[Tensor, " batch"]:
    """Return which samples are valid and not among the lowest floor(share n) of their group's n valid ones."""
    order = torch.where(valid, rewards, torch.inf).argsort(stable=True)
    order = order[index[order].argsort(stable=True)]
    sizes = torch.zeros_like(index).index_add(0, index, torch.ones_like(index))
    rank = torch.empty_like(index)
    rank[order] = torch.arange(len(index)) - (sizes.cumsum(0) - sizes)[index[order]]
    left_out = (share * torch.zeros_like(index).index_add(0, index, valid.long())).floor()
    return valid & (rank >= left_out[index])


def _extremes(
    rewards: Float[Tensor, " batch"], index: Int[Tensor, " batch"], valid: Bool[Tensor, " batch"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Return the lowest and the highest valid reward of each sample's group; inf and -inf where there is none."""
    low, high = (
        torch.full_like(rewards, worst).scatter_reduce(0, index, torch.where(valid, rewards, worst), reduce=reduce)
        for worst, reduce in ((torch.inf, "amin"), (-torch.inf, "amax"))
    )
    return low[index], high[index]


def best_weight(
    rewards: Float[Tensor, " batch"], group: Int[Tensor, " batch"], valid: Bool[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Return 1 for the best samples of each informative group, ties included, else 0.

    Source: RAFT, arXiv:2304.06767, algorithm 1; ties as in Flow-GRPO's published code.
    """
    low, high = _extremes(rewards, _dense(group), valid)
    return (valid & (low < high) & (rewards == high)).to(rewards.dtype)


def extreme_pair(
    rewards: Float[Tensor, " batch"], group: Int[Tensor, " batch"], valid: Bool[Tensor, " batch"], least: float = 0.0
) -> Float[Tensor, " batch"]:
    """Return 1 for the best sample of each group and -1 for its worst, the first of equals; 0 for all others.

    A group whose best and worst do not differ, or by less than `least`, has no pair.
    Source: online DPO in Flow-GRPO's published code, and verl-omni's.
    """
    index, found = _dense(group), torch.zeros_like(rewards)
    low, high = _extremes(rewards, index, valid)
    apart = valid & (low < high) & (high - low >= least)
    for sign, extreme in ((1, high), (-1, low)):
        rows = (apart & (rewards == extreme)).nonzero()[:, 0]
        first = rows.new_full((len(rewards),), len(rewards)).scatter_reduce(0, index[rows], rows, "amin")
        found[first[index[rows]]] = sign
    return found


def win_rate(
    rewards: Float[Tensor, " batch"], group: Int[Tensor, " batch"], valid: Bool[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Return the mean of sigmoid(r - r') over the valid samples r' of a sample's group, its own included.

    It is the expected share of comparisons that the sample wins, if r is a Bradley-Terry score; invalid samples have 0.
    Source: CaPO, arXiv:2502.02588, its calibrated reward.
    """
    same = (group[:, None] == group) & valid
    exact = torch.where(valid, rewards.double(), 0)
    share = torch.sigmoid(exact[:, None] - exact) * same
    return torch.where(valid, share.sum(1) / same.sum(1).clamp(min=1), 0).to(rewards.dtype)


def calibrated_pair(
    rates: Float[Tensor, "batch rewards"], group: Int[Tensor, " batch"], valid: Bool[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Return +d/2 for the best sample of each group's best front and -d/2 for the worst of its worst one, else 0.

    Best and worst are by the mean of `rates` (see `win_rate`), and d is the difference of the two means.
    Source: CaPO, arXiv:2502.02588, its choice of pairs on the Pareto frontier.
    """
    mean = rates.mean(1)
    best = extreme_pair(torch.where(front(rates, group, valid), mean, -1), group, valid).clamp(min=0)
    worst = extreme_pair(torch.where(front(-rates, group, valid), mean, 2), group, valid).clamp(max=0)
    apart = _group_sum((best + worst) * mean, index := _dense(group))[index]
    return (best + worst) * apart / 2


def front(
    scores: Float[Tensor, "batch scores"], group: Int[Tensor, " batch"], valid: Bool[Tensor, " batch"]
) -> Bool[Tensor, " batch"]:
    """Return which valid samples nobody of their group beats: is as good in all scores, and better in one."""
    same = (group[:, None] == group) & valid
    beaten = (scores[:, None] <= scores).all(2) & (scores[:, None] < scores).any(2) & same
    return valid & ~beaten.any(1)


def softmax_weight(
    rewards: Float[Tensor, " batch"], valid: Bool[Tensor, " batch"], temperature: float
) -> Float[Tensor, " batch"]:
    """Return n softmax(temperature r) over the n valid samples, whose mean is 1; 0 for the others.

    Source: DDPO, arXiv:2305.13301, section 4.1 (RWR), whose published code multiplies by the temperature.
    """
    weight = torch.where(valid, temperature * rewards.double(), -torch.inf).softmax(0).nan_to_num(0.0)
    return (weight * valid.sum()).to(rewards.dtype)


def _dense(group: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
    """Number the groups 0, 1, ... so that a group's statistics have a place in a tensor as long as the batch."""
    index: Tensor = torch.unique(group, return_inverse=True)[1]
    return index


def _group_sum(x: Float[Tensor, "batch *more"], index: Int[Tensor, " batch"]) -> Float[Tensor, "batch *more"]:
    """Return the sum of each group, at the group's number."""
    return torch.zeros_like(x).index_add(0, index, x)


def tracked_advantage(
    rewards: Float[Tensor, " batch"],
    valid: Bool[Tensor, " batch"],
    buffers: Sequence[Sequence[float]],
    min_count: int,
) -> Float[Tensor, " batch"]:
    """Return (reward - mean) / (std + 1e-6) over each sample's own `buffer` of rewards; invalid samples get 0.

    A buffer of fewer than `min_count` rewards gives way to all valid rewards of the batch. Standard deviations are
    those of a population; where all rewards of a buffer are equal, the advantage is 0.
    Source: DDPO, arXiv:2305.13301, appendix D.2 ("per-prompt stat tracking") and its published code.
    """
    batch = rewards[valid].double()
    advantage = torch.zeros_like(rewards)
    for i in valid.nonzero()[:, 0].tolist():
        pool = torch.tensor(buffers[i], dtype=torch.float64) if len(buffers[i]) >= min_count else batch
        if pool.min() < pool.max():
            advantage[i] = (rewards[i] - pool.mean()) / (pool.std(correction=0) + 1e-6)
    return advantage


def generalised_advantage(
    values: Float[Tensor, "batch states"], rewards: Float[Tensor, "batch steps"], decay: float, discount: float = 1.0
) -> Float[Tensor, "batch steps"]:
    """Return GAE's advantage of each decision; `values` has one state more than there are decisions, the last one's.

        delta_k = r_k + discount V_{k+1} - V_k,        A_k = delta_k + discount decay A_{k+1}

    V is 0 where an episode is over, and after it rewards are 0 too. decay = 1 is the return less V_k, decay = 0 is
    delta_k. For denoising, whose reward comes with the last decision, r_k = 0 before.
    Source: GAE, arXiv:1506.02438, eq. 16.
    """
    delta = rewards + discount * values[:, 1:] - values[:, :-1]
    advantage, columns = torch.zeros_like(delta[:, 0]), []
    for k in reversed(range(delta.shape[1])):
        advantage = delta[:, k] + discount * decay * advantage
        columns.append(advantage)
    return torch.stack(columns[::-1], 1)
