"""Every prompt at every seed, drawn and judged the same way before and after."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from limner.core.errors import UserError
from limner.core.media import Media, Shown
from limner.core.protocols import Judge
from limner.core.team import ALONE, Team
from limner.core.tree import select
from limner.core.types import OVERALL, Prompt
from limner.evaluate.diversity import diversity_per_prompt
from limner.evaluate.statistics import mean_interval, paired_interval
from limner.report.data import Interval, Kind, Row
from limner.rollout.score import shown

Draw = Callable[[Sequence[Prompt], Sequence[int]], Media]
"""Draw sample i for prompt i at seed i. The same prompt and seed start from the same noise, whatever the weights."""

Keep = Callable[[Sequence[tuple[int, int]], Media], None]
"""Hears what was drawn, as files hold it, with the number of the prompt and the seed of each sample."""


@dataclass(frozen=True)
class Evaluation:
    """What the judge said of what was drawn, and a still of it; where `valid` is false there is no reward."""

    prompts: Sequence[Prompt]
    seeds: Sequence[int]
    reward: Float[Tensor, "prompts seeds"]
    valid: Bool[Tensor, "prompts seeds"]
    stills: UInt8[Tensor, "prompts seeds 3 height width"]
    files: Mapping[tuple[int, int], Path] = field(default_factory=dict)
    """Of a stored evaluation, by row and column: the files that show more of a sample than its still."""

    @property
    def invalid(self) -> int:
        """The number of samples that could not be judged."""
        return int((~self.valid).sum())

    @property
    def kind(self) -> Kind:
        """A rate if the judge only ever said 0 or 1, else a number."""
        judged = self.reward[self.valid]
        return "rate" if bool(((judged == 0) | (judged == 1)).all()) else "number"

    def summary(self) -> dict[str, Interval]:
        """Return the mean reward with its interval: overall, and by category if the prompts name theirs.

        A category of which nothing could be judged is left out.
        """
        parts = {name: rows for name, rows in _parts(self.prompts).items() if self.valid[rows].any()}
        within = (0.0, 1.0) if self.kind == "rate" else (-math.inf, math.inf)
        asked = _asked(self.prompts)
        return {
            name: mean_interval(self.reward[rows], self.valid[rows], prompt=asked[rows], within=within)
            for name, rows in parts.items()
        }

    def diversity(self) -> Interval:
        """Return the within-prompt diversity of all stills, judged or not, with its interval."""
        return mean_interval(diversity_per_prompt(self.stills)[:, None], prompt=_asked(self.prompts))


def evaluate(
    draw: Draw,
    prompts: Sequence[Prompt],
    judge: Judge,
    seeds: Sequence[int],
    *,
    batch: int = 64,
    tick: Callable[[float], None] | None = None,
    keep: Keep | None = None,
    team: Team = ALONE,
) -> Evaluation:
    """Draw every prompt at every seed, `batch` samples at a time, and judge them as files hold them.

    A prompt that is asked again goes on with the seeds after those that it had, so that nothing is drawn twice.
    `tick` hears the share that is done, in (0, 1]. Whoever wants more than stills takes it with `keep`. A team shares
    the samples, and every member returns the whole.
    """
    if not prompts or not seeds:
        raise UserError(f"an evaluation needs prompts and seeds: got {len(prompts)} prompts and {len(seeds)} seeds")
    cells = [(i, seed) for i in range(len(prompts)) for seed in seeds]
    members = team if len(cells) >= team.size else ALONE
    mine = [cells[i] for i in members.share(len(cells))]
    again = _times_before(prompts)
    rewards, stills = [], []
    for start in range(0, len(mine), batch):
        part = mine[start : start + batch]
        asked = [prompts[i] for i, _ in part]
        seen = shown(draw(asked, [seed + again[i] * len(seeds) for i, seed in part]))
        rewards.append(members.told(partial(_judge, judge, seen, asked)))
        stills.append(seen.media.stills())
        if keep is not None and (team.leads or (members.size > 1 and team.speaks)):
            keep(part, seen.media)
        if tick is not None:
            tick(min(start + batch, len(mine)) / len(mine))
    shape = (len(prompts), len(seeds))
    reward, drawn = members.gather(torch.cat(rewards)).reshape(shape), members.gather(torch.cat(stills))
    return Evaluation(tuple(prompts), tuple(seeds), reward, reward.isfinite(), drawn.reshape(*shape, *drawn.shape[1:]))


def compare(before: Evaluation, after: Evaluation) -> dict[str, Interval]:
    """Return the paired difference after - before: overall, and by category; only cells judged both times count."""
    valid = paired_valid(before, after)
    parts = {name: rows for name, rows in _parts(before.prompts).items() if valid[rows].any()}
    within = (-1.0, 1.0) if before.kind == after.kind == "rate" else (-math.inf, math.inf)
    asked = _asked(before.prompts)
    return {
        name: paired_interval(before.reward[rows], after.reward[rows], valid[rows], prompt=asked[rows], within=within)
        for name, rows in parts.items()
    }


def compare_diversity(before: Evaluation, after: Evaluation) -> Row:
    """Return diversity before and after, and its paired difference, as a row of the report."""
    one, two = (diversity_per_prompt(run.stills)[:, None] for run in (before, after))
    note = "Mean RMS distance between 8 × 8 thumbnails of one prompt’s pictures, 0 (all equal) to 1."
    change = paired_interval(one, two, prompt=_asked(before.prompts))
    return Row("Diversity within a prompt", before.diversity(), after.diversity(), change, "number", note)


def rows(before: Evaluation, after: Evaluation, label: str, note: str = "") -> tuple[Row, tuple[Row, ...]]:
    """Return the report's row for all prompts, named `label`, and one for each category."""
    one, two, change = before.summary(), after.summary(), compare(before, after)
    kind: Kind = "rate" if before.kind == after.kind == "rate" else "number"
    main = Row(label, one.get(OVERALL), two.get(OVERALL), change.get(OVERALL), kind, note)
    categories = [name for name in _parts(before.prompts) if name != OVERALL]
    return main, tuple(Row(name, one.get(name), two.get(name), change.get(name), kind) for name in categories)


def paired_valid(before: Evaluation, after: Evaluation) -> Bool[Tensor, "prompts seeds"]:
    """Return which cells were judged both times; refuse evaluations of different prompts or seeds."""
    if list(before.prompts) != list(after.prompts) or list(before.seeds) != list(after.seeds):
        raise ValueError("before and after must be of the same prompts at the same seeds, in the same order")
    return before.valid & after.valid


def _asked(prompts: Sequence[Prompt]) -> Int[Tensor, " prompts"]:
    """Return where each prompt stands first: of equal ones the same place."""
    first: dict[Prompt, int] = {}
    return torch.tensor([first.setdefault(prompt.asked, i) for i, prompt in enumerate(prompts)])


def _times_before(prompts: Sequence[Prompt]) -> list[int]:
    """Return how often each prompt stands before its own place."""
    counted: Counter[Prompt] = Counter()
    before = []
    for prompt in prompts:
        before.append(counted[prompt.asked])
        counted[prompt.asked] += 1
    return before


def _parts(prompts: Sequence[Prompt]) -> dict[str, list[int]]:
    """Return the rows of each part of the prompts: all of them, then each category in order of appearance."""
    parts = {OVERALL: list(range(len(prompts)))}
    for i, prompt in enumerate(prompts):
        if prompt.category is not None:
            parts.setdefault(prompt.category, []).append(i)
    return parts


def _judge(judge: Judge, seen: Shown, prompts: Sequence[Prompt]) -> Float[Tensor, " batch"]:
    """Return rewards, NaN where there is none: of samples that are not finite, and of those that were not judged."""
    reward = torch.full((len(prompts),), torch.nan, dtype=torch.float64)
    rows = seen.finite.nonzero()[:, 0]
    if len(rows):
        output = judge(select(seen.media, rows), [prompts[i] for i in rows.tolist()])
        reward[rows] = output.score.double().masked_fill(~output.valid, torch.nan)
    return reward
