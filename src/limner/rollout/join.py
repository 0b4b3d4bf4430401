"""Parts of an iteration's samples that were drawn apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from limner.core.tree import concatenate, select, tree_map
from limner.core.types import Rollout, Tree


def joined(parts: Sequence[Rollout]) -> Rollout:
    """Return the samples of several rollouts of one version as one, in order.

    Its prompts are theirs one after another, and the empty prompt stands once and last.
    """
    versions = {part.version for part in parts}
    if len(versions) > 1:
        raise ValueError(f"samples of weights {sorted(versions)} are not joined: they are weighted apart")
    before = [sum(len(part.prompts) for part in parts[:i]) for i in range(len(parts))]
    conditions = [select(part.condition, torch.arange(len(part.prompts))) for part in parts]
    empty = select(parts[0].condition, torch.tensor([len(parts[0].prompts)]))
    return replace(
        parts[0],
        prompts=[prompt for part in parts for prompt in part.prompts],
        group=torch.cat([part.group for part in parts]),
        prompt_index=torch.cat([part.prompt_index + first for part, first in zip(parts, before, strict=True)]),
        condition=concatenate([*conditions, empty]),
        sample=torch.cat([part.sample for part in parts]),
        trajectory=concatenate([part.trajectory for part in parts]),
        id=torch.cat([part.id for part in parts]),
    )


def beside(rollout: Rollout, device: torch.device, on_host: bool) -> Rollout:
    """Return samples from elsewhere where the network here is; with `on_host` their decisions stay where they are.

    What counts and names them is on the CPU.
    """

    def there(tree: Tree) -> Tree:
        return tree_map(lambda leaf: leaf.to(device), tree)

    path = rollout.trajectory
    if path is not None and not on_host:
        path = replace(path, states=there(path.states), old=there(path.old))
    return replace(rollout, condition=there(rollout.condition), sample=rollout.sample.to(device), trajectory=path)
