"""The report on a collection whose truth is known: ratings, slices, agreement, and who is to be trusted."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from feedback.collection import ledger_of, side_of, vote
from limner.cli import main
from limner.core.types import OVERALL
from limner.feedback.export import lines
from limner.feedback.report import ELO, Collection, Said, balanced, collected, rated, report
from limner.report.page import page

WORTH = {"base": 0.0, "mid": 0.5, "tuned": 1.2}


def simulated(votes: int) -> list[Said]:
    """Votes by Bradley and Terry on three makers, by three people, of two kinds of prompt."""
    draw, names, said = random.Random(0), list(WORTH), []
    for i in range(votes):
        a, b = draw.sample(names, 2)
        for person in ("p1", "p2", "p3"):
            wins = draw.random() < 1 / (1 + math.exp(WORTH[b] - WORTH[a]))
            said.append(Said(str(i), person, (a, b), ("plain", "hard")[i % 2], {OVERALL: 0 if wins else 2}))
    return said


def test_worths_are_recovered_and_shown_with_slices_and_agreement() -> None:
    said = simulated(1500)
    found = rated(said, sorted(WORTH), OVERALL, "bradley_terry")
    for i, name in enumerate(sorted(WORTH)):
        low, high = found.interval(i)
        assert low < WORTH[name] - sum(WORTH.values()) / 3 < high
    shown = report(
        Collection(
            said, [("tuned", "mid", "base"), ("tuned", "base", "mid"), ("mid", "tuned", "base")], (), (), OVERALL
        ),
        "t",
    )
    by_title = {section.title: section for section in shown.sections}
    first, ranked = by_title["Who is better"].tables
    assert first.columns == ("Made by", "Won", "Elo", "Bradley-Terry", "Davidson", "Rao-Kupper")
    assert [row[0] for row in first.rows] == ["tuned", "mid", "base"] == [row[0] for row in ranked.rows]
    points = float(first.rows[0][3].split("\n")[0].replace(",", ""))
    assert points == pytest.approx(1000 + ELO * float(found.worth[2]), rel=1e-3)
    assert first.rows[0][3] == first.rows[0][4]  # without ties the models are one
    assert by_title["By kind of prompt"].tables[0].columns == ("Made by", "hard", "plain")
    alpha = float(by_title["How far people agree"].tables[0].rows[0][1].split("\n")[0])
    assert 0 < alpha < 0.3
    text = page(shown)
    assert "<script" not in text and "tuned" in text


def test_a_pair_that_was_returned_to_counts_no_more_than_another() -> None:
    """By hand: two pairs of four and one vote: U = 2, sum of 1 / n = 1.25, so that their votes count .4 and 1.6."""
    often = [Said("p", str(i), ("a", "b"), "", {OVERALL: 2 * (i % 2)}) for i in range(4)]
    found = balanced([*often, Said("q", "0", ("b", "a"), "", {OVERALL: 2})])
    assert [each.weight for each in found] == pytest.approx([0.4] * 4 + [1.6])
    shown = report(Collection(found, (), (), (), OVERALL), "t").sections[0].tables[0]
    assert shown.rows[0][:2] == ("a", "75.0 %\nof 5")
    assert [each.weight for each in balanced(simulated(4))] == [1.0] * 12


def test_the_command_reads_a_ledger_and_its_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two people agree that the good ones are better; one always chooses the left side."""
    ledger = ledger_of(tmp_path, 20, least=3, most=3, gold=0.0)
    for name, token in ledger.invite(3):
        who = ledger.who(token)
        assert who is not None
        while given := ledger.next(who, 1):
            choice = "left" if name == "annotator-3" else side_of(ledger, given[0], "good")
            ledger.record(who, vote(given[0], choice))
    out = tmp_path / "page.html"
    assert main(["feedback", "report", str(tmp_path / "votes.db"), "--out", str(out)]) == 0
    text = out.read_text()
    assert all(word in text for word in ("annotator-3", "Krippendorff", "Davidson", "good", "bad"))
    assert "100.0 %" in text and "p = " in text
    [people] = [each for each in report(collected(str(tmp_path / "votes.db")), "t").sections[-1].tables]
    right = {row[0]: float(row[people.columns.index("Right")].split(" ")[0]) for row in people.rows}
    assert min(right["annotator-1"], right["annotator-2"]) > 70 and abs(right["annotator-3"] - 50) < 15
    exported = tmp_path / "pairs.jsonl"
    exported.write_text("".join(line + "\n" for line in lines(ledger)))
    both = [collected(str(tmp_path / name)) for name in ("votes.db", "pairs.jsonl")]
    worths = [rated(each.said, ["bad", "good"], OVERALL, "davidson").worth for each in both]
    assert worths[0].tolist() == pytest.approx(worths[1].tolist(), abs=1e-6) and worths[0][1] > worths[0][0]
    capsys.readouterr()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.db", None, "no such file"),
        ("empty.jsonl", "", "nothing was said"),
        ("other.jsonl", json.dumps({"prompt": "a", "choice": "a"}), "line 1: no row of an export"),
    ],
)
def test_what_is_no_collection_is_one_line(
    name: str, content: str | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    assert main(["feedback", "report", str(tmp_path / name), "--out", str(tmp_path / "x.html")]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
