"""Which prompts stand for all in the dry run, and how they are counted."""

from __future__ import annotations

from limner.core.types import Prompt
from limner.training.kinds import FEW, kinds, tally


def test_one_of_each_category_and_form_of_meta() -> None:
    """Values and lengths of lists do not make a kind; categories, missing keys and other types do, at any depth."""
    first = Prompt("a", {"category": "count", "items": [{"n": 1}]})
    alike = Prompt("b", {"category": "count", "items": [{"n": 2}, {"n": 3}]})
    others = [
        Prompt("c", {"category": "colour", "items": [{"n": 1}]}),
        Prompt("d", {"category": "count"}),
        Prompt("e", {"category": "count", "items": [{"n": "two"}]}),
        Prompt("f", {"category": "count", "items": [{"n": 1}, {}]}),
        Prompt("g"),
    ]
    assert kinds([first, alike, *others, alike, first]) == [first, *others]


def test_counts_by_category_where_there_are_few() -> None:
    prompts = [Prompt("a", {"category": c}) for c in (["x"], ["x"], None, "overall", 1)]
    assert str(tally(prompts)) == '5: ["x"] 2, "overall" 1, 1 1, 1 without a category'
    assert str(tally([Prompt("a")] * 1200)) == "1,200"
    many = [Prompt("a", {"category": str(i)}) for i in range(FEW + 1)]
    assert str(tally(many)) == "13 of 13 categories"


def test_a_category_that_cannot_be_printed_is_escaped() -> None:
    assert str(tally([Prompt("a", {"category": "a\nb\x1b[31m"})])) == '1: "a\\nb\\u001b[31m" 1'
    assert str(tally([Prompt("a", {"category": ["é", "\u202e"]})])) == '1: ["\\u00e9", "\\u202e"] 1'
