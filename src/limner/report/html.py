"""`report.html`: one file that opens offline and says what a run gained and what it cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

from limner.report.chart import figure, strip
from limner.report.data import FEWEST, Gallery, Interval, Kind, Pair, Report, Row, Spent
from limner.report.file import write_text
from limner.report.gallery import PNG_SIDE, data_uri, film
from limner.report.page import figures, frame
from limner.report.text import ABSENT, bounds, count, difference, duration, number, prompts, quantity, verdict


def write_report(path: Path, report: Report) -> None:
    """Write the page in one step."""
    write_text(path, render(report))


def render(report: Report) -> str:
    """Return the page. Every text is escaped; a section without data is left out."""
    sections = (
        _result(report),
        _pictures(report.galleries),
        _section("Training", "", f'<div class="charts">{"".join(map(figure, report.charts))}</div>', report.charts),
        _spent(report.spent) if report.spent else "",
        _details(report),
    )
    return frame(report.title, _header(report), "".join(sections))


def _section(title: str, note: str, body: str, present: object) -> str:
    if not present:
        return ""
    said = f'<p class="soft">{note}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{said}{body}</section>"


def _header(report: Report) -> str:
    change = verdict(report.rows[0] if report.rows else None)
    said = change and f"{escape(change.subject)} <strong>{escape(change.claim)}</strong>{escape(change.evidence)}"
    lead = "".join(f'<p class="lead">{text}</p>' for text in (said, escape(report.summary)) if text)
    notices = "".join(f"<li>{escape(text)}</li>" for text in report.notices)
    return (
        f'<header><p class="eyebrow">limner report</p><h1>{escape(report.title)}</h1>{lead}{_figures(report)}'
        + (f'<ul class="notices">{notices}</ul>' if notices else "")
        + "</header>"
    )


def _figures(report: Report) -> str:
    """Return the three or four numbers to remember."""
    cards = []
    if report.rows and report.rows[0].change:
        change, kind = report.rows[0].change, report.rows[0].kind
        cards.append((report.rows[0].label, difference(change.value, kind), f"{bounds(change, kind)}"))
    if report.diversity and report.diversity.before and report.diversity.after:
        before, after = report.diversity.before.value, report.diversity.after.value
        kept = f"{100 * after / before:.0f} %" if before > 0 else ABSENT
        cards.append(("Diversity kept", kept, f"{number(before)} before, {number(after)} after"))
    if report.spent:
        seconds = report.spent.seconds
        if seconds:
            longest = max(seconds, key=lambda phase: seconds[phase])
            cards.append(("Time", duration(sum(seconds.values())), f"most of it {longest}"))
        if report.spent.network_evaluations:
            total = sum(report.spent.network_evaluations.values())
            cards.append(("Network evaluations", count(total), "samples through the network"))
    return figures(cards)


def _result(report: Report) -> str:
    """Return the table: the headline, its categories below it, other measures, diversity."""
    others = (*report.rows[1:], *([report.diversity] if report.diversity else []))
    listed = [(row, "main") for row in report.rows[:1]]
    listed += [(row, "part") for row in report.categories] + [(row, "") for row in others]
    body = "".join(_row(row, name) for row, name in listed)
    head = "".join(f'<th scope="col">{text}</th>' for text in ("Before", "After", "Change"))
    note = (
        "Ranges are 95 % intervals over prompts (Student’s t). Change pairs equal prompts and seeds, so it is surer "
        f"than the two columns beside it; its colour says where it points, if {FEWEST} prompts or more can tell."
    )
    scale = "○ before&ensp;● after, 0 to 100 %" if any(row.kind == "rate" for row, _ in listed) else ""
    strips = f'<th scope="col" class="strip-cell">{scale}</th>'
    table = f'<table><thead><tr><th scope="col">Measure</th>{head}{strips}</tr></thead><tbody>{body}</tbody></table>'
    return _section("Result", note, f'<div class="table">{table}</div>', listed)


def _row(row: Row, name: str) -> str:
    change, direction = ABSENT, ""
    if row.change:
        change = f"{difference(row.change.value, row.kind)}<small>{bounds(row.change, row.kind)}</small>"
        direction = row.change.direction
    over = [prompts(n) for n in [each.n for each in (row.change, row.after, row.before) if each][:1]]
    note = f"<small>{' · '.join([*filter(None, [escape(row.note)]), *over])}</small>"
    drawn = strip(row.before, row.after, (0.0, 1.0)) if row.kind == "rate" else ""
    return (
        f'<tr class="{name}"><th scope="row">{escape(row.label.replace("_", " "))}{note}</th>'
        f'<td data-label="Before">{_cell(row.before, row.kind)}</td>'
        f'<td data-label="After">{_cell(row.after, row.kind)}</td>'
        f'<td data-label="Change" class="{direction}">{change}</td><td class="strip-cell">{drawn}</td></tr>'
    )


def _cell(interval: Interval | None, kind: Kind) -> str:
    if interval is None:
        return ABSENT
    return f"{quantity(interval.value, kind)}<small>{bounds(interval, kind)}</small>"


def _pictures(galleries: Sequence[Gallery]) -> str:
    shown = [gallery for gallery in galleries if gallery.pairs or gallery.note]
    body = "".join(
        f'<div class="gallery"><h3>{escape(gallery.title)}</h3><p class="soft">{escape(gallery.note)}</p>'
        f'<ul class="pairs">{"".join(map(_pair, gallery.pairs))}</ul></div>'
        for gallery in shown
    )
    note = "Left: the base. Right: after training, from the same prompt, seed and starting noise."
    return _section("Before and after", note, body, shown)


def _pair(pair: Pair) -> str:
    sides = (
        ("before", pair.before, pair.before_file, pair.before_reward),
        ("after", pair.after, pair.after_file, pair.after_reward),
    )
    return (
        '<li class="pair">'
        + "".join(
            f'<figure><img {"class=small " if max(picture.shape) <= PNG_SIDE else ""}loading="lazy" '
            f'width="{picture.shape[2]}" height="{picture.shape[1]}" src="{data_uri(picture, file)}" '
            f'alt="{escape(pair.prompt, quote=True)}, {when}, {_judged(reward)}">'
            f"{_film(file)}<figcaption>{when}{_mark(reward)}</figcaption></figure>"
            for when, picture, file, reward in sides
        )
        + f"<p>{escape(pair.prompt)}&ensp;<span>seed&nbsp;{pair.seed}</span></p></li>"
    )


def _film(file: Path | None) -> str:
    """Return what stands for a clip on paper."""
    strip = film(file)
    return f'<img class="film" loading="lazy" alt="" src="{strip}">' if strip else ""


def _judged(reward: float | None) -> str:
    return "not judged" if reward is None else f"reward {number(reward)}"


def _mark(reward: float | None) -> str:
    if reward is None:
        return "<span>not judged</span>"
    if reward in (0.0, 1.0):
        return '<span class="yes">✓ 1</span>' if reward else '<span class="no">✗ 0</span>'
    return f"<span>{number(reward)}</span>"


def _spent(spent: Spent) -> str:
    total = sum(spent.seconds.values())
    bar = "".join(
        f'<i class="c{i % 6}" style="flex:{max(value, 0):.3f}"></i>' for i, value in enumerate(spent.seconds.values())
    )
    legend = "".join(
        f'<li><i class="swatch c{i % 6}"></i>{escape(name)} <b>{duration(value)}</b></li>'
        for i, (name, value) in enumerate(spent.seconds.items())
    )
    evaluations = sum(spent.network_evaluations.values())
    parts = ", ".join(f"{escape(name)} {value:,}" for name, value in spent.network_evaluations.items())
    facts = [f"{duration(total)} in all"] if spent.seconds else []
    facts += [f"{evaluations:,} network evaluations ({parts})"] if evaluations else []
    told = "" if spent.foretold_memory_mib is None else f" ({spent.foretold_memory_mib:,.0f} foretold)"
    facts += [f"peak memory {spent.peak_memory_mib:,.0f} MiB{told}"] if spent.peak_memory_mib is not None else []
    drawn = f'<div class="bar" aria-hidden="true">{bar}</div><ul class="legend">{legend}</ul>' if total > 0 else ""
    return _section("Spent", " · ".join(facts), drawn, True)


def _details(report: Report) -> str:
    meanings = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in report.meanings.items())
    manifest = json.dumps(report.manifest, indent=2, ensure_ascii=False) if report.manifest else ""
    parts = (
        ("What the columns of metrics.jsonl mean", f'<dl class="columns">{meanings}</dl>', meanings),
        ("Configuration", f"<pre>{escape(report.config)}</pre>", report.config),
        ("Versions, seeds, hashes and hardware", f"<pre>{escape(manifest)}</pre>", manifest),
    )
    body = "".join(f"<details><summary>{title}</summary>{inner}</details>" for title, inner, there in parts if there)
    return _section("How it was made", "", f'<div style="margin-top:16px">{body}</div>', body)
