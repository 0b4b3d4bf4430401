from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from limner.report.chart import figure, ticks
from limner.report.curve import charts, meanings
from limner.report.data import Gallery, Interval, Pair, Report, Row, Spent
from limner.report.html import render, write_report
from limner.report.text import count, difference, duration, number, quantity

EVIL = "<script>alert('x')</script> \" onload=\"x & https://example.com"
VOID = {"meta", "link", "img"}


class Page(HTMLParser):
    """Collect tags, attributes and text, and check that every tag is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data if self.open and self.open[-1] != "style" else ""


def interval(value: float) -> Interval:
    return Interval(value, value - 0.05, value + 0.05, 112)


def line(step: int) -> dict[str, float | None]:
    return {
        "step": step, "reward/mean": 0.4 + step / 100, "reward/std": 0.2, "ratio_deviation": 2e-5, "clip_low": 0.01,
        "clip_high": 0.02, "grad_norm": None if step == 3 else 0.5, "invalid": 0, f"train/{EVIL}": 0.5,
        "heldout/overall": 0.5,
    }  # fmt: skip


def full() -> Report:
    lines = [line(step) for step in range(30)]
    picture = torch.zeros(3, 16, 16, dtype=torch.uint8)
    row = Row("Held-out accuracy", interval(0.47), interval(0.82), interval(0.35))
    return Report(
        title=EVIL, summary=EVIL, rows=[row, Row(EVIL, interval(0.5), None, None, note=EVIL)],
        categories=[Row(EVIL, interval(0.5), interval(0.4), interval(-0.1))],
        diversity=Row("Diversity", interval(0.2), interval(0.19), interval(-0.01), "number"),
        galleries=[Gallery("Best", EVIL, [Pair(EVIL, 3, picture, picture, 0.0, None)])],
        charts=charts(lines, clip=(5e-5,), rate=True),
        spent=Spent({EVIL: 3.0, "update": 1.0}, {EVIL: 5}, 100.0, 1234.0),
        config=EVIL, manifest={EVIL: EVIL}, meanings=meanings(lines), notices=[EVIL],
    )  # fmt: skip


def test_page_parses_and_every_text_is_escaped() -> None:
    text = render(full())
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.words.count("<script>alert('x')</script>") >= 10


def test_page_loads_nothing() -> None:
    page = Page(render(full()))
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            assert (attributes.get(name) or "data:").startswith("data:")
    styles = re.findall(r"<style>(.*?)</style>", render(full()), re.S)
    assert len(styles) == 1 and "url(" not in styles[0] and "@import" not in styles[0] and "http" not in styles[0]


def test_every_picture_and_chart_has_a_text() -> None:
    page = Page(render(full()))
    assert all(attributes["alt"] for tag, attributes in page.tags if tag == "img")
    drawn = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert drawn and all(a.get("aria-label") or a.get("aria-hidden") == "true" for a in drawn)


def test_headline_says_what_the_interval_allows() -> None:
    words = Page(render(full())).words
    assert "rose from 47.0 % to 82.0 %: +35.0 points (95 % interval 30.0 to 40.0), measured on 112 prompts" in words
    same = Row("Held-out accuracy", interval(0.47), interval(0.49), interval(0.02))
    assert "did not change measurably: from 47.0 % to 49.0 %" in Page(render(Report("t", rows=[same]))).words
    worse = Row("Held-out accuracy", interval(0.47), interval(0.3), interval(-0.17))
    assert "fell from" in Page(render(Report("t", rows=[worse]))).words


def test_few_prompts_say_nothing() -> None:
    """However far the interval is from zero, and in its colour too; five may speak."""
    for n, said in ((1, False), (4, False), (5, True)):
        change = Interval(0.35, 0.3, 0.4, n)
        row = Row("Held-out accuracy", interval(0.47), interval(0.82), change)
        text = render(Report("t", rows=[row], categories=[replace(row, label="counting", kind="number")]))
        words = Page(text).words
        assert ("rose from" in words) == (text.count('class="up"') == 2) == said
        assert ("nothing can be said from fewer than 5 prompts" in words) == (not said)
        assert f"{n} prompt{'s' if n > 1 else ''}" in words
    one = Row("Held-out accuracy", interval(0.47), interval(0.82), Interval(0.35, -math.inf, math.inf, 1))
    assert "+35.0 points (interval unknown), measured on 1 prompt" in Page(render(Report("t", rows=[one]))).words


def test_each_row_says_how_many_prompts_it_rests_on() -> None:
    row = Row("Held-out accuracy", interval(0.47), None, None, note="By the sampler.")
    words = Page(render(Report("t", rows=[row], categories=[Row("counting", interval(0.1))]))).words
    assert "By the sampler. · 112 prompts" in words and "counting112 prompts" in words
    unknown = Row("a", Interval(3.0, -math.inf, math.inf, 1), kind="number")
    assert "interval unknown" in Page(render(Report("t", rows=[unknown]))).words


def test_the_training_reward_has_a_scale_of_its_own() -> None:
    """Judged by 0 or 1 on held-out prompts, and taught by a reward that is worth 1.68."""
    lines: list[dict[str, float | None]] = [
        {"step": i, "reward/mean": 1.4 + i / 10, "reward/std": 0.08, "train/a": 1.68, "heldout/overall": 0.5}
        for i in range(3)
    ]
    drawn = {chart.title: chart for chart in charts(lines, rate=True)}
    assert drawn["Held-out prompts"].kind == "rate" and drawn["Held-out prompts"].domain == (0.0, 1.0)
    reward = figure(drawn["Reward"])
    points = [float(y) for _, y in re.findall(r"([\d.]+),([\d.]+)", reward.split("<polyline")[1].split("/>")[0])]
    assert points == sorted(points, reverse=True) and len(set(points)) == 3 and "%" not in reward
    assert "%" not in figure(drawn["Training prompts"])


def test_what_is_absent_is_left_out() -> None:
    words = Page(render(Report("empty"))).words
    for title in ("Result", "Before and after", "Training", "Spent", "How it was made"):
        assert title not in words
    plain = charts([{"step": 0, "reward/mean": 1.0, "reward/std": 0.0}])
    assert [chart.title for chart in plain] == ["Reward"]


def test_charts_hold_the_numbers() -> None:
    drawn = {chart.title: chart for chart in charts([line(step) for step in range(30)], clip=(5e-5,))}
    reward = drawn["Reward"].series[0]
    assert list(reward.y) == pytest.approx([0.4 + step / 100 for step in range(30)])
    assert list(reward.low) == pytest.approx([0.2 + step / 100 for step in range(30)])
    assert math.isnan(drawn["Gradient norm"].series[0].y[3])
    assert drawn["Ratio"].references == (5e-5,)
    long = charts([{"step": step, "reward/mean": float(step)} for step in range(1000)])[0].series[0]
    assert len(long.y) == 200 and long.y[0] == long.x[0] == pytest.approx(2.0)


def test_meanings_cover_what_occurs() -> None:
    assert list(meanings([{"step": 0, "train/a": 1.0, "reward/mean": 0.0}])) == ["step", "reward/mean", "train/…"]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.25, 0.5, 0.75, 1]), (0, 0.057, [0, 0.02, 0.04, 0.06]), (-0.4, 1.4, [-0.5, 0, 0.5, 1, 1.5])],
)
def test_ticks_are_round_and_enclose(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_constant_and_missing_lines_are_drawn() -> None:
    lines: list[dict[str, float | None]] = [{"step": 0, "grad_norm": None}, {"step": 1, "grad_norm": 2.0}]
    Page(render(Report("t", charts=charts(lines))))
    Page(render(Report("t", charts=charts(lines[:1]))))


def test_quantities_are_written_for_people(tmp_path: Path) -> None:
    written = [number(x) for x in (0.0, 0.5, 12.345, 1234.5, 3.1e-5, -0.01)]
    assert written == ["0", "0.500", "12.3", "1,234", "3.1e−5", "−0.0100"]
    assert (quantity(0.4714, "rate"), difference(-0.012, "rate"), number(math.nan)) == ("47.1 %", "−1.2 points", "–")
    assert [duration(s) for s in (4.21, 42, 187, 7500)] == ["4.2 s", "42 s", "3 min 07 s", "2 h 05 min"]
    assert [count(n) for n in (9500, 1_284_000)] == ["9,500", "1.28 million"]
    write_report(tmp_path / "run" / "report.html", Report("t"))
    assert (tmp_path / "run" / "report.html").read_text().startswith("<!doctype html>")


def test_a_scale_is_named_only_where_something_is_drawn_on_it() -> None:
    """A reward that is no share has no strip, and nothing is said of 0 to 100 %."""
    shares = full()
    others = replace(shares, rows=tuple(replace(row, kind="number") for row in shares.rows), categories=())
    assert "0 to 100 %" in Page(render(shares)).words and "0 to 100 %" not in Page(render(others)).words


@example(0.0, 5e-324)
@example(1e-320, 2e-320)
@example(-1.7e308, 1.7e308)
@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_any_numbers_have_a_scale(one: float, other: float) -> None:
    (chart, *_) = charts([{"step": 0, "reward/mean": one}, {"step": 1, "reward/mean": other}])
    assert not re.search(r"\b(nan|inf)\b", figure(chart))
