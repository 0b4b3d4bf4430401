"""Every prompt at every seed, drawn and judged the same way before and after."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from limner.core.errors import UserError
from limner.core.protocols import Reward
from limner.core.types import OVERALL, Images, Prompt, RewardOutput
from limner.evaluate.diversity import diversity_per_prompt
from limner.evaluate.statistics import mean_interval, paired_interval
from limner.report.data import Interval, Kind, Row

Draw = Callable[[Sequence[Prompt], Sequence[int]], Images]
"""Draw picture i for prompt i at seed i. The same prompt and seed start from the same noise, whatever the weights."""


@dataclass(frozen=True)
class Evaluation:
    """What was drawn and what the judge said of it; where `valid` is false there is no reward."""

    prompts: Sequence[Prompt]
    seeds: Sequence[int]
    reward: Float[Tensor, "prompts seeds"]
    valid: Bool[Tensor, "prompts seeds"]
    pictures: UInt8[Tensor, "prompts seeds 3 height width"]

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
        return {name: mean_interval(self.reward[rows], self.valid[rows], within=within) for name, rows in parts.items()}

    def diversity(self) -> Interval:
        """Return the within-prompt diversity of all pictures, judged or not, with its interval."""
        return mean_interval(diversity_per_prompt(self.pictures.float() / 255)[:, None])


def evaluate(
    draw: Draw,
    prompts: Sequence[Prompt],
    judge: Reward,
    seeds: Sequence[int],
    *,
    batch: int = 64,
    tick: Callable[[float], None] | None = None,
) -> Evaluation:
    """Draw every prompt at every seed, `batch` pictures at a time, and judge them rounded to 8 bits.

    `tick` hears the share that is done, in (0, 1].
    """
    if not prompts or not seeds:
        raise UserError(f"an evaluation needs prompts and seeds: got {len(prompts)} prompts and {len(seeds)} seeds")
    cells = [(prompt, seed) for prompt in prompts for seed in seeds]
    rewards, valids, pictures = [], [], []
    for start in range(0, len(cells), batch):
        asked = [prompt for prompt, _ in cells[start : start + batch]]
        images = draw(asked, [seed for _, seed in cells[start : start + batch]]).rounded()
        reward, valid = _judge(judge, images, asked)
        rewards.append(reward)
        valids.append(valid)
        pictures.append((images.pixels * 255).round().byte().cpu())
        if tick is not None:
            tick(min(start + batch, len(cells)) / len(cells))
    shape = (len(prompts), len(seeds))
    drawn = torch.cat(pictures)
    return Evaluation(
        tuple(prompts),
        tuple(seeds),
        torch.cat(rewards).reshape(shape),
        torch.cat(valids).reshape(shape),
        drawn.reshape(*shape, *drawn.shape[1:]),
    )


def compare(before: Evaluation, after: Evaluation) -> dict[str, Interval]:
    """Return the paired difference after - before: overall, and by category; only cells judged both times count."""
    valid = paired_valid(before, after)
    parts = {name: rows for name, rows in _parts(before.prompts).items() if valid[rows].any()}
    within = (-1.0, 1.0) if before.kind == after.kind == "rate" else (-math.inf, math.inf)
    return {
        name: paired_interval(before.reward[rows], after.reward[rows], valid[rows], within=within)
        for name, rows in parts.items()
    }


def compare_diversity(before: Evaluation, after: Evaluation) -> Row:
    """Return diversity before and after, and its paired difference, as a row of the report."""
    one, two = (diversity_per_prompt(run.pictures.float() / 255)[:, None] for run in (before, after))
    note = "Mean RMS distance between 8 × 8 thumbnails of one prompt’s pictures, 0 (all equal) to 1."
    change = paired_interval(one, two)
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


def _parts(prompts: Sequence[Prompt]) -> dict[str, list[int]]:
    """Return the rows of each part of the prompts: all of them, then each category in order of appearance."""
    parts = {OVERALL: list(range(len(prompts)))}
    for i, prompt in enumerate(prompts):
        if prompt.category is not None:
            parts.setdefault(prompt.category, []).append(i)
    return parts


def _judge(
    judge: Reward, images: Images, prompts: Sequence[Prompt]
) -> tuple[Float[Tensor, " batch"], Bool[Tensor, " batch"]]:
    """Return rewards, NaN where there is none, and which of them stand.

    Pictures that are not finite are not shown to the judge; a reward that is not finite does not stand.
    """
    reward = torch.full((len(prompts),), torch.nan)
    shown = images.pixels.isfinite().flatten(1).all(1).cpu().nonzero()[:, 0]
    if len(shown):
        output = judge(Images(images.pixels[shown]), [prompts[i] for i in shown.tolist()])
        scores = output.score if isinstance(output, RewardOutput) else output
        if scores.shape != shown.shape:
            raise UserError(f"the reward must return one number a sample: for {len(shown)} got {tuple(scores.shape)}")
        reward[shown] = scores.detach().float().cpu()
        if isinstance(output, RewardOutput):
            reward[shown[~output.valid.cpu()]] = torch.nan
    valid = reward.isfinite()
    return reward.masked_fill(~valid, torch.nan), valid
