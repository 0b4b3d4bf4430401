"""From the lines of metrics.jsonl to the charts of a report, and what every number means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from limner.learning.health import HEALTH
from limner.report.data import Chart, Kind, Series
from limner.report.metrics import Line

MOST_POINTS = 200
"""Points of one line: longer runs are averaged over equal stretches of iterations."""
MOST_POINTS_TOGETHER = 40
"""The same where noisy lines share a chart."""

MEANINGS = {
    "step": "Iteration, from 0: roll out, score, update.",
    "reward/mean": "Mean of the total reward over the samples of the iteration that could be judged.",
    "reward/std": "Standard deviation of the total reward over those samples.",
    "reward/": "Mean of one reward column, before its weight.",
    "term/": "Mean of one term of the reward, gated or combined, before its weight and any comparison within groups.",
    "contribution/": "Weight times that: these add up to the mean reward.",
    "train/": "Mean total reward of the training prompts of one category.",
    "heldout/": "Mean reward on prompts never trained on, overall and by category.",
    **HEALTH,
    "anchor": "The anchor's loss: weight times the squared error of the velocity on its data.",
    "grad_norm": "Norm of the gradient before clipping, mean over the optimizer steps of the iteration.",
    "lr": "Learning rate.",
    "invalid": "Samples that could not be judged; they left their groups and the loss.",
    "focus/even": "Samples whose advantage counts everywhere alike, though there is a focus: it saw nothing stand out.",
    "staleness": "Iterations by which the weights that drew were behind.",
    "importance/log_ratio": "Mean log-ratio in nats of a sample of earlier weights under the present ones; below 0.",
    "importance/effective": "As which share of as many new samples the weighted ones count, 1 if none has moved.",
    "importance/truncated": "Share of samples whose importance weight was cut to rollouts.weight_max.",
    "group_weight/mean": "Mean of what the advantages of a group are multiplied by.",
    "group_weight/std": "How far groups differ in it.",
    "unknown_prior": "Groups of prompts that were met for the first time, which reliability leaves as they are.",
    "constant": "Groups whose rewards were all equal; where samples are compared with their group they teach nothing.",
    "skipped": "Optimizer steps that were skipped because a loss or gradient was not finite.",
    "network_evaluations": "Samples through the network once, with or without gradient, since the start.",
    "seconds/": "Seconds of one phase.",
}
"""Meaning by name; a name that ends in a slash covers all names that start so."""


DRIFT = {
    "approx_kl": "Divergence from the sampler",
    "divergence": "Divergence from the sampler",
    "step_kl": "Divergence from the sampler",
    "old_distance": "Distance from the sampler",
    "kl": "Divergence from the base",
    "reference_distance": "Distance from the base",
}


def meanings(lines: Sequence[Line]) -> dict[str, str]:
    """Return what the names that occur in the lines mean, as far as it is known."""
    names = _names(lines)
    found = {}
    for key, text in MEANINGS.items():
        if key in names:
            found[key] = text
        elif key.endswith("/") and any(n.startswith(key) and n not in MEANINGS for n in names):
            found[f"{key}…"] = text
    return found


def charts(lines: Sequence[Line], clip: tuple[float, ...] = (), rate: bool = False) -> tuple[Chart, ...]:
    """Return the charts that the lines have numbers for.

    `clip` is the range in the unit of `ratio_deviation`, drawn beside it; `rate` says that held-out prompts are judged
    by 0 or 1. The training reward, often another one, has a scale of its own.
    """
    prefixes = {prefix: _group(lines, prefix) for prefix in ("reward/", "contribution/", "train/", "heldout/")}
    columns = [series for series in prefixes["reward/"] if series.name not in ("mean", "std")]
    shares = prefixes["contribution/"]
    kind: Kind = "rate" if rate else "number"
    unit = (0.0, 1.0) if rate else None
    health = [_series(lines, name, label) for name, label in (("clip_low", "low"), ("clip_high", "high"))]
    made = [
        _reward(lines),
        Chart("Reward by column", "Raw means, before weights.", columns if len(columns) > 1 else []),
        Chart("Contributions", "Weight times term; they add up to the reward.", shares if len(shares) > 1 else []),
        Chart("Held-out prompts", "Never trained on; a part of the set.", prefixes["heldout/"], kind, unit),
        Chart("Training prompts", "Means over short stretches of iterations.", prefixes["train/"]),
        Chart("Ratio", "Mean |log ratio| per latent element; dashed: clip range.",
              [_series(lines, "ratio_deviation", "deviation")], references=clip),
        Chart("Clipped decisions", "Share whose gradient is cut off by the clip.", health, "rate"),
        *(Chart(title, MEANINGS[name], [_series(lines, name, "value")]) for name, title in DRIFT.items()),
        Chart("Gradient norm", "Before clipping.", [_series(lines, "grad_norm", "norm")]),
        Chart("Left out", "Samples not judged; updates skipped.",
              [_series(lines, "invalid", "not judged"), _series(lines, "skipped", "skipped")]),
    ]  # fmt: skip
    kept = [replace(chart, series=[s for s in chart.series if s.x]) for chart in made]
    return tuple(chart for chart in kept if chart.series)


def headline(lines: Sequence[Line], rate: bool = False) -> Chart | None:
    """Return the one curve to show of a run: all held-out prompts, if they were measured on the way, else the reward.

    `rate` says that held-out prompts are judged by 0 or 1. None: there is no number yet.
    """
    if not lines:
        return None
    measured = _series(lines, "heldout/overall", "overall", MOST_POINTS_TOGETHER)
    if measured.x:
        return Chart(
            "Held-out prompts", "Never trained on; a part of the set.", [measured], "rate" if rate else "number"
        )
    return _reward(lines, MOST_POINTS_TOGETHER)


def _reward(lines: Sequence[Line], most: int = MOST_POINTS) -> Chart:
    """Return the mean reward in a band of one standard deviation."""
    mean, spread = (_series(lines, f"reward/{name}", name, most) for name in ("mean", "std"))
    at = dict(zip(spread.x, spread.y, strict=True))
    reach = [at.get(x, 0.0) for x in mean.x]
    low = [y - r for y, r in zip(mean.y, reach, strict=True)]
    high = [y + r for y, r in zip(mean.y, reach, strict=True)]
    note = "Mean over the samples of an iteration; band: one standard deviation."
    return Chart("Reward", note, [replace(mean, low=low, high=high)])


def _group(lines: Sequence[Line], prefix: str) -> list[Series]:
    """Return the series of all names that start so, in one order (and so colour) for every prefix, "overall" last."""
    names = sorted(name for name in _names(lines) if name.startswith(prefix))
    names.sort(key=lambda name: name.endswith("/overall"))
    return [_series(lines, name, name.removeprefix(prefix), MOST_POINTS_TOGETHER) for name in names]


def _names(lines: Sequence[Line]) -> list[str]:
    """Return the names that occur, in order of first appearance."""
    return list(dict.fromkeys(name for line in lines for name in line))


def _series(lines: Sequence[Line], name: str, label: str, most: int = MOST_POINTS) -> Series:
    """Return the numbers called `name` over iterations, averaged over stretches if there are many; null is a gap."""
    points = [(line["step"], _value(line, name)) for line in lines if name in line]
    stretch = max(-(-len(points) // most), 1)
    parts = [points[i : i + stretch] for i in range(0, len(points), stretch)]
    return Series(label, [_mean([x for x, _ in p]) for p in parts], [_mean([y for _, y in p]) for p in parts])


def _value(line: Mapping[str, float | None], name: str) -> float:
    value = line[name]
    return math.nan if value is None else value


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
