"""What an algorithm says of itself: what it asks of a run, and how it learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from limner.diffusion.timesteps import TrainingTimes


@dataclass(frozen=True)
class OldPolicy:
    """Weights that follow the trained ones: old <- d old + (1 - d) policy after iteration i, d = min(rate n, most).

    n is i, counted from 0, or, with `updates` optimizer steps an iteration, the number of them so far, (i + 1) updates.
    With rate 0 they are the trained ones of the iteration's beginning.
    """

    rate: float = 0.0
    most: float = 0.0
    updates: int = 0

    def decay(self, iteration: int) -> float:
        """Return d."""
        return min(self.rate * ((iteration + 1) * self.updates if self.updates else iteration), self.most)


RatioKind: TypeAlias = Literal["log_ratio", "normalised", "distance"]
"""`Distribution.log_ratio`, its `normalised_log_ratio`, or, of a Gaussian, `distance_ratio`."""

LossMean: TypeAlias = Literal["decisions", "samples", "constant"]
"""What a loss over decisions is a mean over; see `learning/passes.py`."""


@dataclass(frozen=True)
class Clip:
    """The range in which a ratio counts, per element of a choice of `elements` elements, in nats.

    A "normalised" one is that of a step whose std is 1; at std s it is 1 / s wider.
    """

    low: float
    high: float
    elements: int
    of: RatioKind = "log_ratio"

    def per_element(self, elements: int) -> tuple[float, float]:
        """Return the range as it is for choices of `elements` elements: the same in nats.

        A range per element times the number of elements is a band of the whole log-ratio, and that is what is kept.
        The lower end stays below 1, where a ratio would be clipped at 0.
        """
        factor = self.elements / elements
        return min(self.low * factor, 0.9), self.high * factor


@dataclass(frozen=True)
class Renoising:
    """How finished samples are noised again: each to `num_times` times of a kind, none below `min_time`.

    With `by_group` a group has one (time, noise) for all and learns as one: it stays whole in an optimizer step, and
    the algorithm measures all of it before its loss (`OnGroups`), but where it learns from `pairs`. With `by_all` it
    measures all samples of an optimizer step.
    """

    num_times: int
    times: TrainingTimes
    min_time: float = 0.0
    by_group: bool = False
    by_all: bool = False


@dataclass(frozen=True)
class Needs:
    """What an algorithm asks of the run, and how it learns; what is not asked for is not computed, stored or accepted.

    It learns from recorded decisions (`path`) or from finished samples that are noised again (`renoise`): its loss is
    one on `Decisions` or on `Renoised`, or, with `pairs`, on pairs of these.
    """

    path: bool = False
    renoise: Renoising | None = None
    pairs: bool = False
    """Whether it learns from pairs of a group's samples, a better and a worse one: by advantages above and below 0."""
    segments: bool = False
    """Whether it also learns from pairs of which either sample is the better one in some of its segments."""
    reference: bool = False
    refresh: int = 0
    """Iterations after which the reference becomes the trained policy of then; 0: it stays the base."""
    old: OldPolicy | None = None
    """The weights that drew the samples, where those are not the trained ones."""
    clip: Clip | None = None
    """The range in which a ratio to what the sampler recorded counts."""
    group: bool = True
    """Whether it compares the samples of a group, so that one alone teaches nothing."""
    divide: float | None = None
    """The worth that divides wanted samples from unwanted ones, if it learns from both kinds; None: it has no such."""
    tree: bool = False
    """Whether it compares the branches of a tree of samples."""
    outcome: bool = False
    """Whether its gradient goes through what a sample's decisions lead to (`Reparameterised`)."""
    spread: bool = False
    """Whether it reads the std of decisions, which only those that are drawn with Gaussian noise have."""
    own_update: bool = False
    """Whether it changes the weights itself, instead of giving a loss to an optimizer (`OwnUpdate`)."""
    alone: bool = False
    """Whether it reads other samples' decisions while it learns from one, so that one process must hold them all."""

    @property
    def follows(self) -> bool:
        """Whether weights are kept that follow the trained ones: an old policy, or a reference that is refreshed."""
        return self.old is not None or self.refresh > 0

    def decay(self, iteration: int) -> float:
        """Return d of old <- d old + (1 - d) policy after an iteration; 1 where old weights stay as they are."""
        if self.old is not None:
            return self.old.decay(iteration)
        return 0.0 if self.refresh and (iteration + 1) % self.refresh == 0 else 1.0
