"""Samples in, judged samples out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.errors import RunError
from limner.core.media import Media, Shown
from limner.core.protocols import Jury
from limner.core.shortage import needing
from limner.core.team import ALONE, Team
from limner.core.tree import concatenate, leaves, select, tree_map
from limner.core.types import Rollout, Scored

Decode = Callable[[Tensor], Media]


def in_parts(decode: Decode, most: int) -> Decode:
    """Return what decodes `most` samples at a time, of which the others wait on the CPU; 0: `decode` itself."""

    def few(sample: Float[Tensor, "batch *latent"]) -> Media:
        return concatenate([tree_map(Tensor.cpu, decode(part)) for part in sample.split(most)])

    return few if most else decode


def shown(media: Media) -> Shown:
    """Return media as files hold them, on the CPU, and which of the samples are finite."""
    finite = torch.stack([leaf[:, None].isfinite().flatten(1).all(1) for leaf in leaves(media)]).all(0)
    return Shown(tree_map(Tensor.cpu, media.rounded()), finite.cpu())


@needing("decode")
def render(sample: Float[Tensor, "batch *latent"], decode: Decode, micro_batch: int) -> Shown:
    """Return what the samples show, `micro_batch` decoded at a time."""
    with torch.no_grad():
        return concatenate([shown(decode(part)) for part in sample.split(micro_batch)])


def judge(
    rollout: Rollout,
    seen: Shown,
    reward: Jury,
    micro_batch: int,
    memory: dict[str, Any] | None = None,
    team: Team = ALONE,
    step: int | None = None,
) -> Scored:
    """Ask the judges of `reward` about every sample, `micro_batch` at a time, and compose the total of all together.

    A sample is valid if what it shows is finite (others are not shown to the judges) and every judge could judge it. An
    invalid one has total NaN, never zero, and a column is NaN where it was not judged; all are float64. `memory` is
    what the reward remembers of earlier iterations. The total is composed of the columns of the whole team. `step` is
    the iteration that the reward's schedules count; None: that of the weights that drew. Of a crew one process asks.
    """
    batch = len(rollout)
    prompts = rollout.prompt_of()
    columns: dict[str, Tensor] = {}
    nothing = torch.full((batch,), torch.nan, dtype=torch.float64)
    media, finite = seen.media, seen.finite.nonzero()[:, 0]
    for rows in finite.split(micro_batch) if len(finite) else ():
        with torch.no_grad():
            asked = [prompts[i] for i in rows.tolist()]
            found = team.told(partial(reward.columns, select(media, rows), asked))
        for name, values in found.items():
            columns.setdefault(name, nothing.clone())[rows] = values.cpu().double()
    if len(finite):
        with torch.no_grad():
            asked = [prompts[i] for i in finite.tolist()]
            found = team.told(partial(reward.comparisons, select(media, finite), asked, rollout.group[finite]))
        columns |= {name: nothing.index_copy(0, finite, values.double()) for name, values in found.items()}
    names = dict.fromkeys(team.gather_objects(list(columns)))
    if not names:
        return Scored(rollout, {}, nothing.isfinite(), nothing)
    every = {name: team.gather(columns.get(name, nothing)) for name in names}
    now, mine = rollout.version if step is None else step, team.rows(batch)
    composed = reward.total(every, team.gather(rollout.group), now, memory)
    terms = {name: replace(term, value=term.value[mine]) for name, term in composed.terms.items()}
    own = {name: column[mine] for name, column in every.items()}
    return Scored(rollout, own, composed.valid[mine], composed.total[mine], terms)


@dataclass
class FailureBudget:
    """Stop a run whose samples were all invalid for `limit` iterations in a row."""

    limit: int = 3
    failed: int = 0
    """Iterations in a row, up to the last one, without a valid sample."""

    def check(self, scored: Scored) -> None:
        """Count an iteration; raise RunError, naming the columns that judged nothing, when the budget is spent."""
        self.failed = 0 if scored.valid.any() else self.failed + 1
        if self.failed < self.limit:
            return
        silent = [repr(name) for name, column in scored.rewards.items() if not column.isfinite().any()]
        if not scored.rewards:
            reason = "the samples themselves are not finite, so nothing was judged"
        elif silent:
            reason = f"reward {', '.join(silent)} judged none of the {len(scored.valid)} samples of the last one"
        else:
            reason = f"each sample was refused by one of {', '.join(map(repr, scored.rewards))}"
        raise RunError(f"no valid sample in {self.failed} iterations in a row: {reason}; the last checkpoint stands")
