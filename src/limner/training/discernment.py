"""Whether judges can tell the samples of a prompt apart: their spread within groups against their own noise.

All that is learned comes from differences between samples of one prompt. A judge that gives them the same teaches
nothing; one that contradicts itself, or answers to what nobody can see, teaches that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.media import Media, Shown
from limner.core.rng import Rng
from limner.core.tree import leaves, select, tree_map
from limner.core.types import RewardSpec, Scored
from limner.training.source import Judges

NOISY = 0.25
"""From this share of the variance within groups on, noise is worth a word."""
CROWDED = 0.9
"""From this share of samples on, that all have the best, or the worst, that a judge can give."""
ULPS = 16
"""Differences of so many float32 units in the last place are rounding."""


@dataclass(frozen=True)
class Discernment:
    """What a pass of samples shows of one judge, in the unit of its scores.

    `spread` is the standard deviation about the means of groups, pooled. `again` is that of one answer, from asking
    twice about the same samples; `shaken` that of an answer to a sample whose levels moved by one at most, but for what
    all samples' answers moved alike. They are None where a judge was not asked again. `float32` says whether all
    scores are float32 numbers, and `sign` with which sign the score enters the total, 0 where that is not so simple.
    """

    name: str
    spec: RewardSpec
    least: float
    most: float
    spread: float
    samples: int
    groups: int
    constant: int
    """Groups whose samples all have one score."""
    worst: float
    """The share of samples whose score is the lowest that the judge can give, and of those with the highest."""
    best: float
    float32: bool
    sign: int
    again: float | None = None
    shaken: float | None = None

    def __str__(self) -> str:
        better = {1: ", more is better", -1: ", less is better", 0: ""}[self.sign]
        bounds = f" of {self.spec.low:g} to {self.spec.high:g}" if math.isfinite(self.spec.high - self.spec.low) else ""
        asked = (
            "asked once, for it is elsewhere"
            if self.again is None
            else f"± {self.again:.2g} asked again"
            + ("" if self.shaken is None else f", ± {self.shaken:.2g} when pixels move by one level")
        )
        return (
            f"{self.least:.6g} to {self.most:.6g}{bounds}{better}; ± {self.spread:.2g} within groups, {asked}; "
            f"{self.constant} of {self.groups} groups constant"
        )

    @property
    def notice(self) -> str:
        """Say what stands in the way of learning from this judge, and what to do; empty: nothing was seen."""
        name, size = f"reward {self.name!r}", max(abs(self.least), abs(self.most))
        if self.least == self.most:
            return (
                f"{name} gave all {self.samples} samples of the dry run {self.least:g}, and from such groups nothing "
                "can be learned. Unless that is chance, reward what differs between samples of one prompt, or mend it"
            )
        if self.constant == self.groups:
            return (
                f"{name} gave all samples of a prompt the same, in each of {self.groups} groups: differences between "
                "prompts teach nothing. Unless that is chance, use a finer measure, larger groups or harder prompts"
            )
        if self.float32 and self.spread < ULPS * torch.finfo(torch.float32).eps * size:
            return (
                f"{name} differs within groups by {self.spread:.1e} at {size:g}, which is the rounding of float32: "
                "nothing else would be learned. Reward something in which samples differ more, or compute it in float64"
            )
        if self.spread < ULPS * torch.finfo(torch.float32).eps * size:
            return (
                f"{name} lies near {self.most:g} and differs within groups by {self.spread:.2g} only: statistics are "
                "float64 here and keep that, but any float32 on its way loses it. Subtract a constant from it"
            )
        return self._noise(name) or self._crowd(name)

    def _noise(self, name: str) -> str:
        if self.again is not None and self.again**2 >= NOISY * self.spread**2:
            claims = ", though it claims to be deterministic" if self.spec.version and self.spec.deterministic else ""
            return (
                f"{name} contradicts itself: asked twice about the same samples its answers differ by "
                f"± {self.again:.2g}{claims}, and samples of a group by ± {self.spread:.2g}. "
                f"{_share(self.again, self.spread)} of what is learned would be noise. Average several answers, or "
                "enlarge the groups"
            )
        if self.shaken is not None and self.shaken**2 >= NOISY * self.spread**2:
            return (
                f"{name} answers to what nobody sees: when pixels move by one level of 255 its scores move by "
                f"± {self.shaken:.2g}, and samples of a group differ by ± {self.spread:.2g}. "
                f"{_share(self.shaken, self.spread)} of what is learned would be that. Blur or resize before it judges"
            )
        return ""

    def _crowd(self, name: str) -> str:
        for share, bound, said in (
            (self.best, self.spec.high, "the highest that it can give: little is left to learn. Use harder prompts"),
            (self.worst, self.spec.low, "the lowest that it can give: there is little to go by. Use easier prompts"),
        ):
            if share >= CROWDED:
                return f"{name} gave {share:.0%} of the samples {bound:g}, {said}, or a finer measure"
        return ""


def _share(noise: float, spread: float) -> str:
    return f"{min(1.0, noise**2 / spread**2):.0%}"


def discern(judges: Judges, scored: Scored, shown: Shown, micro_batch: int, rng: Rng) -> list[Discernment]:
    """Return what samples and what they show tell of each judge; one without two samples of a group tells nothing.

    Judges that are here are asked twice more: about the same, and about samples whose levels moved by one at most.
    """
    found = {name: _first(name, spec, scored) for name, spec in judges.specs().items()}
    told = {name: each for name, each in found.items() if each is not None}
    rows, prompts, here = shown.finite.nonzero()[:, 0], scored.rollout.prompt_of(), judges.local()
    if not told or not len(rows):
        return list(told.values())

    def ask(change: Callable[[Media], Media]) -> dict[str, Float[Tensor, " rows"]]:
        parts = []
        for some in rows.split(micro_batch):
            with torch.no_grad():
                parts.append(here.columns(change(select(shown.media, some)), [prompts[i] for i in some.tolist()]))
        return {name: torch.cat([part[name].double() for part in parts]) for name in told if name in parts[0]}

    again = ask(lambda media: media)
    moved = ask(lambda media: shaken(media, rng)) if again and any(map(_levels, leaves(shown.media))) else {}
    for name, column in again.items():
        told[name] = replace(told[name], again=_deviation(column - scored.rewards[name][rows]))
    for name, column in moved.items():
        change = column - again[name]
        told[name] = replace(told[name], shaken=_deviation(change - change[change.isfinite()].mean()))
    return list(told.values())


def _first(name: str, spec: RewardSpec, scored: Scored) -> Discernment | None:
    """Return what the scores that were given tell, without another question."""
    column = scored.rewards[name]
    groups = [column[(scored.rollout.group == each) & column.isfinite()] for each in scored.rollout.group.unique()]
    groups = [scores for scores in groups if len(scores) > 1]
    if not groups:
        return None
    scores = column[column.isfinite()]
    squares = sum(float((each - each.mean()).square().sum()) for each in groups)
    return Discernment(
        name=name,
        spec=spec,
        least=scores.min().item(),
        most=scores.max().item(),
        spread=math.sqrt(squares / sum(len(each) - 1 for each in groups)),
        samples=len(scores),
        groups=len(groups),
        constant=sum(bool((each == each[0]).all()) for each in groups),
        worst=(scores <= spec.low).double().mean().item(),
        best=(scores >= spec.high).double().mean().item(),
        float32=torch.equal(scores, scores.float().double()),
        sign=_sign(column, scored),
    )


def level(scored: Scored) -> str:
    """Say that the whole reward is the same for all samples of a prompt, whatever its judges say; empty: it is not."""
    groups = [scored.total[(scored.rollout.group == each) & scored.valid] for each in scored.rollout.group.unique()]
    groups = [totals for totals in groups if len(totals) > 1]
    if not groups or not all(bool((totals == totals[0]).all()) for totals in groups):
        return ""
    return (
        f"the reward as a whole gave all samples of a prompt the same, in each of {len(groups)} groups, though its "
        "judges may differ: nothing can be learned from them. Look at its weights, signs, gates and clips"
    )


def _levels(leaf: Tensor) -> bool:
    return leaf.dtype == torch.uint8


def shaken(media: Media, rng: Rng) -> Media:
    """Return media whose 8-bit levels moved by -1, 0 or 1 at random: what no eye tells from the same."""
    generator = rng.generator()

    def move(leaf: Tensor) -> Tensor:
        if not _levels(leaf):
            return leaf
        return (leaf.int() + torch.randint(-1, 2, leaf.shape, generator=generator)).clamp(0, 255).to(torch.uint8)

    return tree_map(move, media)


def _deviation(difference: Float[Tensor, " rows"]) -> float:
    """Return the standard deviation of one answer from differences of two."""
    told = difference[difference.isfinite()]
    return math.sqrt(told.square().mean().item() / 2) if len(told) else 0.0


def _sign(column: Float[Tensor, " batch"], scored: Scored) -> int:
    """Return the sign of the term that the column is, 0 if it is none by itself."""
    same = [t.weight for t in scored.terms.values() if torch.equal(t.value[scored.valid], column[scored.valid])]
    return 0 if len(same) != 1 else 1 if same[0] > 0 else -1
