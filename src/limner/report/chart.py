"""Charts as inline SVG: colours come from the page's style, numbers can be read by pointing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from limner.report.data import Chart, Interval, Kind, Series
from limner.report.text import number, quantity

WIDTH, HEIGHT = 360.0, 196.0
LEFT, RIGHT, TOP, BOTTOM = 42.0, 8.0, 8.0, 22.0
STRIP_WIDTH, STRIP_HEIGHT = 220.0, 30.0
COLOURS = 6
"""Line colours the style defines; further lines start again."""
DOTS = 16
"""A line of at most this many points shows each of them."""


def figure(chart: Chart) -> str:
    """Return one chart with its title, note and legend."""
    described = "; ".join(f"{s.name}: {_first_last(s, chart.kind, chart.axis)}" for s in chart.series)
    legend = ""
    if len(chart.series) > 1:
        items = (
            f'<li><i class="swatch c{i % COLOURS}"></i>{escape(s.name.replace("_", " "))} '
            f"<b>{quantity(_last(s.y), chart.kind)}</b></li>"
            for i, s in enumerate(chart.series)
        )
        legend = f'<ul class="legend">{"".join(items)}</ul>'
    last = f"<b>{quantity(_last(chart.series[0].y), chart.kind)}</b>" if len(chart.series) == 1 else ""
    return (
        f'<figure class="chart"><figcaption><h3>{escape(chart.title)}{last}</h3><p>{escape(chart.note)}</p>{legend}'
        f"</figcaption>{_plot(chart, escape(f'{chart.title}. {described}', quote=True))}</figure>"
    )


def strip(before: Interval | None, after: Interval | None, domain: tuple[float, float]) -> str:
    """Return two intervals above one another on a common axis; the table beside it says the numbers."""
    parts = [f'<line class="axis" x1="0" x2="{STRIP_WIDTH}" y1="{STRIP_HEIGHT / 2}" y2="{STRIP_HEIGHT / 2}"/>']
    for name, interval, y in (("before", before, 8.0), ("after", after, STRIP_HEIGHT - 8.0)):
        if interval is None:
            continue
        ends = (interval.low, interval.value, interval.high)
        low, middle, high = (_scale(value, domain, 5, STRIP_WIDTH - 5) for value in ends)
        parts.append(
            f'<g class="{name}"><line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}"/>'
            f'<circle cx="{middle:.1f}" cy="{y}" r="4"/></g>'
        )
    box = f"0 0 {STRIP_WIDTH:g} {STRIP_HEIGHT:g}"
    return f'<svg class="strip" viewBox="{box}" aria-hidden="true">{"".join(parts)}</svg>'


SMALLEST, LARGEST = 1e-290, 1e290
"""Numbers beyond which a scale would leave the range of floats: what is smaller is 0 to the eye."""


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return at most about `most` round numbers that enclose [low, high]."""
    if not high - low > SMALLEST:
        pad = max(abs(low) * 0.1, 1.0 if abs(low) < SMALLEST else SMALLEST * 2)
        low, high = low - pad, high + pad
    raw = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    unit = next(m for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999) * power
    first, last = math.floor(low / unit + 1e-9), math.ceil(high / unit - 1e-9)
    return [i * unit for i in range(first, last + 1)]


def _plot(chart: Chart, label: str) -> str:
    marks = ticks(*(chart.domain or _extent(chart)))
    xs = sorted({x for s in chart.series for x in s.x})
    across, up = (xs[0], xs[-1] if xs[-1] > xs[0] else xs[0] + 1), (marks[0], marks[-1])
    parts = []
    for mark in marks:
        y = _scale(mark, up, HEIGHT - BOTTOM, TOP)
        text = f"{100 * mark:.3g} %" if chart.kind == "rate" else _tick(mark)
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{text}</text>')
    for x, anchor in ((across[0], "start"), (across[1], "end")):
        at = _scale(x, across, LEFT, WIDTH - RIGHT)
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">{_place(x)}</text>')
    middle, axis = (LEFT + WIDTH - RIGHT) / 2, escape(chart.axis)
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{axis}</text>')
    for value in chart.references:
        if up[0] <= value <= up[1]:
            y = _scale(value, up, HEIGHT - BOTTOM, TOP)
            parts.append(f'<line class="reference" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
    parts += [_line(s, i % COLOURS, across, up) for i, s in enumerate(chart.series)]
    parts.append(_hits(chart, xs, across))
    return f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _line(series: Series, colour: int, across: tuple[float, float], up: tuple[float, float]) -> str:
    """Return a band, if there is one, and the line, broken where a value is missing."""

    def place(x: float, y: float) -> str:
        bounded = min(max(y, up[0]), up[1])
        return f"{_scale(x, across, LEFT, WIDTH - RIGHT):.1f},{_scale(bounded, up, HEIGHT - BOTTOM, TOP):.1f}"

    runs: list[list[int]] = [[]]
    for i, y in enumerate(series.y):
        if math.isfinite(y):
            runs[-1].append(i)
        elif runs[-1]:
            runs.append([])
    parts = []
    for run in filter(None, runs):
        if series.low:
            edge = [place(series.x[i], series.high[i]) for i in run]
            edge += [place(series.x[i], series.low[i]) for i in reversed(run)]
            parts.append(f'<polygon class="band" points="{" ".join(edge)}"/>')
        points = [place(series.x[i], series.y[i]) for i in run]
        parts.append(f'<polyline points="{" ".join(points)}"/>')
        if len(series.x) <= DOTS or len(run) == 1:
            pairs = (point.split(",") for point in points)
            parts += [f'<circle cx="{x}" cy="{y}" r="2.5"/>' for x, y in pairs]
    return f'<g class="line c{colour}">{"".join(parts)}</g>'


def _hits(chart: Chart, xs: Sequence[float], across: tuple[float, float]) -> str:
    """Return invisible columns that say, when pointed at, the values there."""
    tables = [(s.name, dict(zip(s.x, s.y, strict=True))) for s in chart.series]
    width = (WIDTH - LEFT - RIGHT) / max(len(xs) - 1, 1)
    parts = []
    for x in xs:
        said = [f"{name.replace('_', ' ')} {quantity(table[x], chart.kind)}" for name, table in tables if x in table]
        left = _scale(x, across, LEFT, WIDTH - RIGHT) - width / 2
        parts.append(
            f'<rect class="hit" x="{left:.1f}" y="{TOP}" width="{width:.1f}" height="{HEIGHT - TOP - BOTTOM}">'
            f"<title>{escape(f'{chart.axis} {_place(x)}: ' + ', '.join(said))}</title></rect>"
        )
    return "".join(parts)


def _extent(chart: Chart) -> tuple[float, float]:
    values = [v for s in chart.series for v in (*s.y, *s.low, *s.high) if math.isfinite(v)]
    values += [r for r in chart.references if values and r <= 4 * max(map(abs, values))]
    if values and min(values) >= 0 and min(values) < 0.5 * max(values):
        values.append(0.0)
    bounded = [min(max(value, -LARGEST), LARGEST) for value in values]
    return (min(bounded), max(bounded)) if bounded else (0.0, 1.0)


def _scale(value: float, domain: tuple[float, float], start: float, end: float) -> float:
    return start + (value - domain[0]) / (domain[1] - domain[0]) * (end - start)


def _tick(value: float) -> str:
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e5:
        digits, power = f"{value:.1e}".split("e")
        return f"{digits.removesuffix('.0')}e{int(power)}".replace("-", "−")
    return f"{value:.6g}".replace("-", "−")


def _place(x: float) -> str:
    """Write where something is on the horizontal axis."""
    return f"{x:,.0f}" if x == round(x) else number(x)


def _last(values: Sequence[float]) -> float:
    return next((value for value in reversed(values) if math.isfinite(value)), math.nan)


def _first_last(series: Series, kind: Kind, axis: str) -> str:
    first = next((value for value in series.y if math.isfinite(value)), math.nan)
    return f"from {quantity(first, kind)} at {axis} {number(series.x[0])} to {quantity(_last(series.y), kind)}"
