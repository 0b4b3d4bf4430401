"""Prompts in, samples out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from limner.core.protocols import Policy
from limner.core.rng import Rng
from limner.core.team import ALONE, Team
from limner.core.tree import concatenate, leaves, select
from limner.core.types import Condition, Prompt, Rollout, Sampled, Tree


class EncodeCache:
    """Encoded prompts by text: a text is encoded once, as long as `max_bytes` hold it (the oldest leave first).

    Each text is encoded by itself: a row then depends on nothing but its text, neither on its neighbours in a batch nor
    on what was encoded before, so that a resumed run sees the same bits.
    """

    def __init__(self, encode: Callable[[Sequence[Prompt]], Condition], max_bytes: int = 2**30) -> None:
        self._encode = encode
        self._max_bytes = max_bytes
        self._bytes = 0
        self._rows: dict[str, Tree] = {}
        self._empty: Tree = None

    def condition(self, prompts: Sequence[Prompt]) -> Condition:
        """Return the row of each prompt, in order, and after them the row of the empty prompt."""
        rows = [self._row(prompt) for prompt in prompts]
        while self._bytes > self._max_bytes:
            self._bytes -= _bytes(self._rows.pop(next(iter(self._rows))))
        return concatenate([*rows, self._empty])

    def _row(self, prompt: Prompt) -> Tree:
        if prompt.text not in self._rows:
            with torch.no_grad():
                pair = self._encode([prompt])
            self._rows[prompt.text] = select(pair, torch.tensor([0]))
            self._empty = select(pair, torch.tensor([1]))
            self._bytes += _bytes(self._rows[prompt.text])
        return self._rows[prompt.text]


def _bytes(tree: Tree) -> int:
    return sum(leaf.nbytes for leaf in leaves(tree))


def collect(
    policy: Policy,
    cache: EncodeCache,
    prompts: Sequence[Prompt],
    group_size: int,
    *,
    rng: Rng,
    step: int,
    record: bool,
    micro_batch: int,
    team: Team = ALONE,
    drawn: Callable[[Tensor, list[Prompt]], None] | None = None,
) -> Rollout:
    """Draw `group_size` samples for each prompt of this member's share, `micro_batch` samples at a time.

    Sample i of step k has id k P G + i, and prompt p of it group k P + p: both unique in a run with constant P and G,
    and the same however many processes share the prompts. A share is of whole groups.
    `drawn` is told of each micro-batch, its samples and their prompts, before the next is drawn.
    Equal prompts (text and meta) share a row of `condition`, and stay separate groups. `step` is also the version.
    """
    num, mine = len(prompts), team.share(len(prompts))
    unique, place = _unique([prompts[i] for i in mine])
    condition = cache.condition(unique)
    prompt_index = place.repeat_interleave(group_size)
    group = (step * num + torch.tensor(mine)).repeat_interleave(group_size)
    id = group * group_size + torch.arange(group_size).repeat(len(mine))
    parts: list[Sampled] = []
    with torch.no_grad():
        for rows in torch.arange(len(id)).split(micro_batch):
            parts.append(policy.sample(condition, prompt_index[rows], group[rows], id[rows], rng=rng, record=record))
            if drawn is not None:
                drawn(parts[-1].sample, [unique[i] for i in prompt_index[rows].tolist()])
    return Rollout(
        prompts=unique,
        group=group,
        prompt_index=prompt_index,
        condition=condition,
        sample=torch.cat([part.sample for part in parts]),
        trajectory=concatenate([part.trajectory for part in parts]),
        id=id,
        version=step,
    )


def _unique(prompts: Sequence[Prompt]) -> tuple[list[Prompt], Int[Tensor, " prompts"]]:
    """Return the different prompts in order of appearance, and the place of each prompt among them."""
    unique: list[Prompt] = []
    by_text: dict[str, list[int]] = {}
    place = []
    for prompt in prompts:
        same = [i for i in by_text.setdefault(prompt.text, []) if unique[i] == prompt]
        if not same:
            same = [len(unique)]
            by_text[prompt.text] += same
            unique.append(prompt)
        place.append(same[0])
    return unique, torch.tensor(place)
