"""What algorithms that learn from pairs share: which samples make one, and how both are restored."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from limner.core.protocols import Actors, Context, ForwardProcess
from limner.core.types import Batch, Pairs, Renoised, Scored
from limner.diffusion.prediction import Estimate
from limner.learning.restoration import ErrorKind, frozen, matching_error, restored
from limner.objectives.advantage import extreme_pair


def best_and_worst(algorithm: object, scored: Scored, context: Context) -> Float[Tensor, " batch"]:
    """Return 1 for the best sample of each group and -1 for its worst; 0 for the others, and where all are equal.

    It is the method `advantage` of an algorithm that makes no more of it. A given pair is a group of two.
    """
    return extreme_pair(scored.total, scored.rollout.group, scored.valid)


@dataclass(frozen=True)
class Sides:
    """Both samples of pairs as the trained weights and the reference restore them, the better ones first.

    `change` is by how much the trained weights' error exceeds the reference's.
    """

    estimates: tuple[Estimate, Estimate]
    change: Float[Tensor, " twice"]

    @property
    def gap(self) -> Float[Tensor, " pairs"]:
        """The change of the better sample minus that of the worse one; see `limner.objectives.preference`."""
        better, worse = self.change.chunk(2)
        return better - worse

    def health(self) -> dict[str, Float[Tensor, " pairs"]]:
        """Return whether each pair is ordered, and how both samples are restored."""
        better, worse = self.change.detach().chunk(2)
        return ordered(worse - better) | {"better_change": better, "worse_change": worse}


def restored_sides(error: ErrorKind, actors: Actors[ForwardProcess], batch: Batch, pack: Pairs[Renoised]) -> Sides:
    """Return both samples of pairs, restored: a pass of the trained weights and one of the reference's."""
    new, reference = restored(actors.policy, batch, pack.both), frozen(actors.reference, batch, pack.both)
    now, before = (matching_error(each, pack.both, error) for each in (new, reference))
    return Sides((new, reference), now - before)


def gap_of(
    error: ErrorKind, actors: Actors[ForwardProcess], batch: Batch, pack: Pairs[Renoised]
) -> tuple[Float[Tensor, " pairs"], dict[str, Float[Tensor, " pairs"]]]:
    """Return the gap of pairs, and their health."""
    sides = restored_sides(error, actors, batch, pack)
    return sides.gap, sides.health()


def ordered(margin: Float[Tensor, " pairs"]) -> dict[str, Float[Tensor, " pairs"]]:
    """Return of each pair whether the better sample leads by the implicit reward; a tie counts half."""
    return {"pair_accuracy": (margin.detach().sign() + 1) / 2}
