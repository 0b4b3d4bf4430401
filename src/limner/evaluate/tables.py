"""What a report tabulates of a run's evaluations."""

from __future__ import annotations

from collections.abc import Mapping

from limner.evaluate.protocol import Evaluation, compare_diversity, rows
from limner.report.data import Row


def tables(
    before: Mapping[str, Evaluation | None], after: Mapping[str, Evaluation | None]
) -> tuple[list[Row], tuple[Row, ...]]:
    """Return the report's rows: the headline and what else was measured; and the headline by category."""
    first, last = before["sampler"], after["sampler"]
    if first is None or last is None:
        return [], ()
    main, categories = rows(first, last, "Held-out prompts", "By the sampler that training uses.")
    found = [main]
    one, two, guided = before.get("ode"), after.get("ode"), before.get("guided")
    if one is not None and two is not None:
        found.append(rows(one, two, "With the plain ODE", "No noise after the first.")[0])
    if guided is not None and two is not None:
        found.append(rows(guided, two, "Against the guided base", "Both by the plain ODE; only the base is guided.")[0])
    return found, categories


def diversity_row(before: Evaluation | None, after: Evaluation | None) -> Row | None:
    """Return how diversity changed, or None where it was not measured before and after, with two seeds at least."""
    if before is None or after is None or len(before.seeds) < 2:
        return None
    return compare_diversity(before, after)
