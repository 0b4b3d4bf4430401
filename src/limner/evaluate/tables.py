"""What a report tabulates of a run's evaluations."""

from __future__ import annotations

from collections.abc import Mapping

from limner.evaluate.protocol import Evaluation, compare_diversity, rows
from limner.report.data import Row

TEXTS = {
    "sampler": ("Held-out prompts", "By the sampler that training uses."),
    "ode": ("With the plain ODE", "No noise after the first."),
    "guided": ("Against the guided base", "Both by the plain ODE; only the base is guided."),
}
"""Label and note of the samplers that every run knows."""
INSTEAD = {"guided": "ode"}
"""By which other sampler the result was drawn where it was not by this one; else by the one that training uses."""


def tables(before: Mapping[str, Evaluation], after: Mapping[str, Evaluation]) -> tuple[list[Row], tuple[Row, ...]]:
    """Return the report's rows, one for each sampler by its name, and those of training's sampler by category.

    Where only the base, or only the result, was drawn by a sampler, the other was by the one that training uses.
    """
    if "sampler" not in before or "sampler" not in after:
        return [], ()
    found: list[Row] = []
    categories: tuple[Row, ...] = ()
    for name in {**before, **after}:
        other = INSTEAD.get(name, "sampler")
        one, two = before.get(name, before.get(other)), after.get(name, after.get(other))
        if one is not None and two is not None:
            row, parts = rows(one, two, *TEXTS.get(name, (f"By {name}", _note(name in before, name in after))))
            found.append(row)
            categories = parts if name == "sampler" else categories
    return found, categories


def _note(before: bool, after: bool) -> str:
    """Return what to say of a sampler of the user's own."""
    if before and after:
        return "By this sampler of the configuration, before and after."
    return f"Only the {'base' if before else 'result'} is drawn by it; the other by the sampler that training uses."


def diversity_row(before: Evaluation | None, after: Evaluation | None) -> Row | None:
    """Return how diversity changed, or None where it was not measured before and after, with two seeds at least."""
    if before is None or after is None or len(before.seeds) < 2:
        return None
    return compare_diversity(before, after)
