"""Prompts in, samples out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from limner.core.protocols import Policy
from limner.core.rng import Rng
from limner.core.shortage import needing
from limner.core.team import ALONE, Team
from limner.core.tree import Joined, concatenate, leaves, select
from limner.core.types import Condition, Prompt, Rollout, Tree
from limner.rollout.kept import Kept


class EncodeCache:
    """Encoded prompts by what is asked: each is encoded once, as long as `max_bytes` hold it (the oldest leave first).

    Each is encoded by itself: a row then depends on nothing but its prompt, neither on its neighbours in a batch nor on
    what was encoded before, so that a resumed run sees the same bits. `encoding` is the context in which that is done,
    `kept` what others are on disk, if any.
    """

    def __init__(
        self,
        encode: Callable[[Sequence[Prompt]], Condition],
        max_bytes: int = 2**30,
        encoding: Callable[[], AbstractContextManager[None]] = nullcontext,
        kept: Kept | None = None,
    ) -> None:
        self._encode, self._max_bytes, self._encoding = encode, max_bytes, encoding
        self._kept = kept
        self._bytes = 0
        self._rows: dict[Prompt, Tree] = {}
        self._empty: Tree = None

    @needing("encode")
    def condition(self, prompts: Sequence[Prompt]) -> Condition:
        """Return the row of each prompt, in order, and after them the row of the empty prompt."""
        asked = [prompt.asked for prompt in prompts]
        new = [prompt for prompt in dict.fromkeys(asked) if prompt not in self._rows]
        if self._kept is not None:
            for prompt in new:
                if (pair := self._kept.read(prompt)) is not None:
                    self._keep(prompt, pair)
            new = [prompt for prompt in new if prompt not in self._rows]
        if new:
            with self._encoding(), torch.no_grad():
                for prompt in new:
                    pair = self._encode([prompt])
                    self._keep(prompt, pair)
                    if self._kept is not None:
                        self._kept.write(prompt, pair)
        rows = [self._rows[prompt] for prompt in asked]
        while self._bytes > self._max_bytes:
            self._bytes -= _bytes(self._rows.pop(next(iter(self._rows))))
        return concatenate([*rows, self._empty])

    def _keep(self, prompt: Prompt, pair: Condition) -> None:
        self._rows[prompt], self._empty = (select(pair, torch.tensor([row])) for row in (0, 1))
        self._bytes += _bytes(self._rows[prompt])


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
    unique = list(dict.fromkeys(prompts[i] for i in mine))
    condition = cache.condition(unique)
    prompt_index = torch.tensor([unique.index(prompts[i]) for i in mine]).repeat_interleave(group_size)
    group = (step * num + torch.tensor(mine)).repeat_interleave(group_size)
    id = group * group_size + torch.arange(group_size).repeat(len(mine))
    every = Joined(len(id))
    with torch.no_grad():
        for rows in torch.arange(len(id)).split(micro_batch):
            part = policy.sample(condition, prompt_index[rows], group[rows], id[rows], rng=rng, record=record)
            if drawn is not None:
                drawn(part.sample, [unique[i] for i in prompt_index[rows].tolist()])
            every.add(part)
            del part  # before the next is drawn
    return Rollout(
        prompts=unique,
        group=group,
        prompt_index=prompt_index,
        condition=condition,
        sample=every.tree.sample,
        trajectory=every.tree.trajectory,
        id=id,
        version=step,
    )
