"""A run at a glance: the card that a notebook shows, a part of a page that brings its own style and loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from limner.report.chart import figure
from limner.report.data import Chart, Pair, Row
from limner.report.gallery import thumbnail
from limner.report.text import difference, number, verdict

STYLE = """
.limner { font: 14px/1.5 system-ui, sans-serif; max-width: 760px; border: 1px solid #8884; border-radius: 8px;
  padding: 14px 18px; }
.limner h3, .limner h4, .limner p, .limner figure, .limner ul { margin: 0; padding: 0; }
.limner .soft, .limner figcaption, .limner small { opacity: .7; font-size: 12px; }
.limner .body { display: flex; flex-wrap: wrap; gap: 16px; margin-top: 12px; }
.limner .chart { flex: 1 1 300px; max-width: 360px; }
.limner ul { flex: 1 1 300px; list-style: none; display: grid; gap: 10px; align-content: start;
  grid-template-columns: repeat(auto-fill, minmax(140px, 1fr)); }
.limner li { margin: 0; line-height: 1.3; } .limner small { display: block; }
.limner img { display: inline-block; width: 66px; height: auto; margin: 0 3px 0 0; border-radius: 3px; }
.limner svg { width: 100%; overflow: visible; }
.limner svg text { fill: currentColor; opacity: .7; font-size: 10.5px; }
.limner .rule { stroke: #8883; } .limner .reference { stroke: #888; stroke-dasharray: 4 4; }
.limner polyline { fill: none; stroke: #3b82c4; stroke-width: 1.75; }
.limner .line circle { fill: #3b82c4; } .limner .band { fill: #3b82c4; opacity: .14; }
.limner .hit { opacity: 0; }
"""


def glance(title: str, said: str, row: Row | None, chart: Chart | None, pairs: Sequence[Pair]) -> str:
    """Return the card: what changed, how sure that is, one curve, and a few pairs drawn by chance.

    `said` is how far the run is and where its report is; `row` and `pairs` are of the held-out prompts.
    """
    headline = ""
    if (change := verdict(row)) is not None:
        headline = f"<p>{escape(change.subject)} <strong>{escape(change.claim)}</strong>{escape(change.evidence)}</p>"
    curve = figure(chart) if chart is not None else ""
    pictures = f"<ul>{''.join(map(_pair, pairs))}</ul>" if pairs else ""
    return (
        f'<style>{STYLE}</style><div class="limner"><h3>{escape(title)}{_gain(row)}</h3>'
        f'<p class="soft">{escape(said)}</p>{headline}<div class="body">{curve}{pictures}</div></div>'
    )


def _gain(row: Row | None) -> str:
    return f": {difference(row.change.value, row.kind)}" if row is not None and row.change is not None else ""


def _pair(pair: Pair) -> str:
    shown = ((pair.before, "before", pair.before_reward), (pair.after, "after", pair.after_reward))
    pictures = "".join(
        f'<img src="{thumbnail(picture)}" alt="{when}" title="{when}: '
        f'{"not judged" if reward is None else f"reward {number(reward)}"}">'
        for picture, when, reward in shown
    )
    return f"<li>{pictures}<small>{escape(pair.prompt[:80])}</small></li>"
