"""Pages that open offline: one file, which loads nothing. What any page is made of; `html.py` has that of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from limner.report.chart import figure
from limner.report.data import Chart
from limner.report.gallery import PNG_SIDE, Picture, data_uri
from limner.report.style import STYLE

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What the page may load: nothing."""


@dataclass(frozen=True)
class Table:
    """Rows of text below a head; the first cell of a row names it. A cell may have a second, smaller line."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Exhibit:
    """Pictures side by side, each with its caption, and a text below them, perhaps with a second, smaller line."""

    pictures: Sequence[tuple[str, Picture]]
    text: str


@dataclass(frozen=True)
class Section:
    """A part of a page: tables, then charts, then pictures."""

    title: str
    note: str
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    exhibits: Sequence[Exhibit] = ()


@dataclass(frozen=True)
class Page:
    """What a page says. `figures` are the numbers to remember: name, value and note."""

    title: str
    eyebrow: str
    lead: str
    figures: Sequence[tuple[str, str, str]]
    sections: Sequence[Section]
    notices: Sequence[str] = ()


def page(of: Page) -> str:
    """Return the page. Every text is escaped; a section with nothing below its note is left out."""
    notices = "".join(f"<li>{escape(text)}</li>" for text in of.notices)
    header = (
        f'<header><p class="eyebrow">{escape(of.eyebrow)}</p><h1>{escape(of.title)}</h1>'
        f'<p class="lead">{escape(of.lead)}</p>{figures(of.figures)}'
        + (f'<ul class="notices">{notices}</ul>' if notices else "")
        + "</header>"
    )
    there = (each for each in of.sections if each.tables or each.charts or each.exhibits)
    return frame(of.title, header, "".join(map(_section, there)))


def frame(title: str, header: str, body: str) -> str:
    """Return a whole page of a header and a body."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)} · limner</title><style>{STYLE}</style></head><body>"
        f"{header}<main>{body}</main>"
        f"<footer>Written by limner. This page loads nothing from anywhere.</footer></body></html>\n"
    )


def figures(cards: Sequence[tuple[str, str, str]]) -> str:
    """Return the numbers to remember: name, value and note of each."""
    items = (
        f'<div><dt>{escape(name)}</dt><dd><span class="figure">{escape(value)}</span>{escape(note)}</dd></div>'
        for name, value, note in cards
    )
    return f'<dl class="figures">{"".join(items)}</dl>' if cards else ""


def _section(of: Section) -> str:
    charts = f'<div class="charts">{"".join(map(figure, of.charts))}</div>' if of.charts else ""
    note = f'<p class="soft">{escape(of.note)}</p>' if of.note else ""
    shown = f'<ul class="pairs">{"".join(map(_exhibit, of.exhibits))}</ul>' if of.exhibits else ""
    return f"<section><h2>{escape(of.title)}</h2>{note}{''.join(map(_table, of.tables))}{charts}{shown}</section>"


def _exhibit(of: Exhibit) -> str:
    about = escape(of.text.splitlines()[0], quote=True)
    figures = "".join(
        f'<figure><img {"class=small " if max(picture.shape) <= PNG_SIDE else ""}loading="lazy" '
        f'width="{picture.shape[2]}" height="{picture.shape[1]}" src="{data_uri(picture)}" '
        f'alt="{about}, {escape(caption, quote=True)}"><figcaption>{escape(caption)}</figcaption></figure>'
        for caption, picture in of.pictures
    )
    return f'<li class="pair">{figures}<p>{_lines(of.text)}</p></li>'


def _table(of: Table) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in of.columns)
    rows = "".join(_row(row, of.columns) for row in of.rows)
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _row(row: Sequence[str], columns: Sequence[str]) -> str:
    name, *cells = (_lines(cell) for cell in row)
    body = "".join(
        f'<td data-label="{escape(column, quote=True)}">{cell}</td>'
        for column, cell in zip(columns[1:], cells, strict=True)
    )
    return f'<tr><th scope="row">{name}</th>{body}</tr>'


def _lines(cell: str) -> str:
    first, _, rest = cell.partition("\n")
    return escape(first) + (f"<small>{escape(rest)}</small>" if rest else "")
