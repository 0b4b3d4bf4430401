"""An expression with its judges: each is asked once, and the columns make the total."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limner.core.errors import UserError
from limner.core.media import Media
from limner.core.protocols import Judge
from limner.core.types import Composed, Prompt, RewardOutput, RewardSpec, Term
from limner.judging.checked import explained, told
from limner.judging.spec import joint_spec
from limner.rewards.algebra.functions import WinRate
from limner.rewards.algebra.tree import Expression, Leaf, Scope, leaves, value_of, walk
from limner.rewards.algebra.within import Compare, plain, terms_of, wins


@dataclass(frozen=True)
class Composition:
    """What is maximised. `judges` answer for the leaves of the expression, `comparers` for those inside `win_rate`.

    `references` are their answers about data that samples are held against, by its name.
    A sample counts only if every judge could judge it: elsewhere the total is NaN, and no group is compared with it.
    """

    expression: Expression
    judges: Mapping[Leaf, Judge]
    comparers: Mapping[Leaf, Compare] = field(default_factory=dict)
    references: Mapping[str, Mapping[str, Float[Tensor, " known"]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [leaf.column for leaf in leaves(self.expression)]
        if not names:
            raise UserError(f"reward {self.expression}: names no judge")
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"two rewards are called {name!r}: give their functions different names")
        inside = {node.arguments[0] for node in walk(self.expression) if isinstance(node, WinRate)}
        for leaf in leaves(self.expression):
            if (leaf in self.comparers) != (leaf in inside):
                says = (
                    "compares, and stands in win_rate(...)" if leaf in self.comparers else "does not compare: use rank"
                )
                raise UserError(f"reward {self.expression}: {leaf} {says}")

    @property
    def absolute(self) -> bool:
        """Whether the total of a sample depends on it alone, so that before and after can be compared."""
        return all(node.absolute for node in walk(self.expression))

    @property
    def grouped(self) -> bool:
        """Whether the total compares a sample with the others of its group."""
        return any(node.grouped for node in walk(self.expression))

    @property
    def plain(self) -> Composition:
        """What says how good a sample is by itself, where terms compare samples by their value; see `plain`."""
        return replace(self, expression=plain(self.expression))

    def require_absolute(self, remedy: str) -> None:
        """Raise UserError, which ends with the remedy, if the total of a sample depends on more than the sample."""
        if not self.absolute:
            raise UserError(
                f"the reward {self.expression} compares a sample with its group or with earlier ones, so it cannot say "
                f"how good one picture is: {remedy}"
            )

    def columns(self, media: Media, prompts: Sequence[Prompt]) -> dict[str, Float[Tensor, " batch"]]:
        """Ask every judge once; return raw numbers, NaN where not judged.

        `name` is the score, `name/part` what a judge reports beside it, `name/uncertainty` what it says of its own.
        """
        return told({leaf.column: judge(media, prompts) for leaf, judge in self.judges.items()})

    def comparisons(
        self, media: Media, prompts: Sequence[Prompt], group: Int[Tensor, " batch"]
    ) -> dict[str, Float[Tensor, " batch"]]:
        """Compare every pair of each group; return the share of its pairs that a sample wins, NaN if it has none.

        A pair that could not be compared counts for neither. Of a comparer that failed altogether nothing is judged.
        """
        return {leaf.column: wins(compare, media, prompts, group) for leaf, compare in self.comparers.items()}

    def total(
        self,
        columns: Mapping[str, Float[Tensor, " batch"]],
        group: Int[Tensor, " batch"],
        step: int = 0,
        memory: dict[str, Any] | None = None,
    ) -> Composed:
        """Return the total, and the terms of what is reported of it; `memory` is changed by what it remembers.

        Reported is the same sum before its terms are compared within groups, a constant of it as a term too.
        """
        judged = [columns[leaf.column].isfinite() for leaf in leaves(self.expression)]
        valid = torch.stack(judged).all(0)
        kept = {name: column.masked_fill(~valid, torch.nan) for name, column in columns.items()}
        scope = Scope(kept, group, step, {} if memory is None else memory, self.references)
        known: dict[Expression, Tensor] = {}
        total = value_of(self.expression, scope, known)
        reported = terms_of(plain(self.expression))
        terms = {str(part): Term(weight, value_of(part, scope, known)) for weight, part in reported.terms}
        if reported.constant:
            terms["1"] = Term(reported.constant, torch.ones_like(total))
        return Composed(total.masked_fill(~valid, torch.nan), valid & total.isfinite(), terms)

    def specs(self) -> dict[str, RewardSpec]:
        """Return what those that score say about themselves, by the names of their columns."""
        return {leaf.column: judge.spec for leaf, judge in self.judges.items()}

    def local(self) -> Composition:
        """Return the same with those judges alone that are here; its total is not to be asked for."""
        return replace(self, judges={leaf: judge for leaf, judge in self.judges.items() if not judge.spec.elsewhere})

    @property
    def spec(self) -> RewardSpec:
        """What is known of the total."""
        return joint_spec(str(self.expression), [judge.spec for judge in self.judges.values()], self.absolute)

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        """Judge samples that are compared with no others. Raises UserError if the total depends on others."""
        return self._judged(lambda judge: judge(media, prompts))

    def differentiable(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        """Judge likewise, but what is given, not rounded, with gradients through every judge and the arithmetic.

        Raises UserError if a judge has none.
        """
        return self._judged(lambda judge: judge.differentiable(media, prompts))

    def _judged(self, ask: Callable[[Judge], RewardOutput]) -> RewardOutput:
        self.require_absolute("name what to evaluate by with --evaluation.reward")
        answers = {leaf.column: ask(judge) for leaf, judge in self.judges.items()}
        columns = told(answers)
        found = self.total(columns, torch.zeros(len(next(iter(columns.values()))), dtype=torch.long))
        maps = {f"{name}/{part}": shown for name, answer in answers.items() for part, shown in answer.maps.items()}
        return RewardOutput(found.total, found.valid, columns, explanation=explained(answers), maps=maps)
