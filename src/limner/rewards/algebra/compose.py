"""An expression with its judges: each is asked once, and the columns make the total."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limner.core.errors import UserError
from limner.core.types import Composed, Media, Prompt, RewardOutput, Term
from limner.rewards.algebra.tree import Expression, Leaf, Scope, Sum, leaves, walk

Judge: TypeAlias = Callable[[Media, Sequence[Prompt]], RewardOutput]
"""A reward whose answer has its one form (`limner.rewards.checked`)."""


@dataclass(frozen=True)
class Composition:
    """What is maximised. `judges` answers for every leaf of the expression.

    A sample counts only if every judge could judge it: elsewhere the total is NaN, and no group is compared with it.
    """

    expression: Expression
    judges: Mapping[Leaf, Judge]

    def __post_init__(self) -> None:
        names = [leaf.column for leaf in leaves(self.expression)]
        if not names:
            raise UserError(f"reward {self.expression}: names no judge")
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"two rewards are called {name!r}: give their functions different names")

    @property
    def absolute(self) -> bool:
        """Whether the total of a sample depends on it alone, so that before and after can be compared."""
        return all(node.absolute for node in walk(self.expression))

    def columns(self, media: Media, prompts: Sequence[Prompt]) -> dict[str, Float[Tensor, " batch"]]:
        """Ask every judge once; return raw numbers, NaN where not judged.

        `name` is the score, `name/part` what a judge reports beside it, `name/uncertainty` what it says of its own.
        """
        found = {}
        for leaf in leaves(self.expression):
            output = self.judges[leaf](media, prompts)
            found[leaf.column] = output.score.masked_fill(~output.valid, torch.nan)
            found |= {f"{leaf.column}/{part}": values for part, values in output.components.items()}
            if output.uncertainty is not None:
                found[f"{leaf.column}/uncertainty"] = output.uncertainty
        return found

    def total(
        self,
        columns: Mapping[str, Float[Tensor, " batch"]],
        group: Int[Tensor, " batch"],
        step: int = 0,
        memory: dict[str, Any] | None = None,
    ) -> Composed:
        """Return the total, and the terms that add up to it; `memory` is changed by what it remembers."""
        judged = [columns[leaf.column].isfinite() for leaf in leaves(self.expression)]
        valid = torch.stack(judged).all(0)
        kept = {name: column.masked_fill(~valid, torch.nan) for name, column in columns.items()}
        scope = Scope(kept, group, step, {} if memory is None else memory)
        known: dict[Expression, Tensor] = {}

        def value(node: Expression) -> Tensor:
            if node not in known:
                known[node] = node.value([value(part) for part in node.parts], scope)
            return known[node]

        total = value(self.expression)
        whole = self.expression if isinstance(self.expression, Sum) else Sum(((1.0, self.expression),))
        terms = {str(part): Term(weight, value(part)) for weight, part in whole.terms}
        return Composed(total.masked_fill(~valid, torch.nan), valid & total.isfinite(), terms)

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        """Judge samples that are compared with no others. Raises UserError if the total depends on others."""
        if not self.absolute:
            raise UserError(
                f"the reward {self.expression} compares a sample with its group or with earlier ones, so it cannot say "
                "how good one picture is: name what to evaluate by with --evaluation.reward"
            )
        columns = self.columns(media, prompts)
        found = self.total(columns, torch.zeros(len(media), dtype=torch.long))
        return RewardOutput(found.total, found.valid, columns)
