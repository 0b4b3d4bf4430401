"""What a learned reward's score comes from: the clauses of a prompt."""

from __future__ import annotations

import pytest

from limner.rewards.learned.explain import clauses


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a red circle left of a blue square", ("a red circle left of", "a blue square")),
        ("two red stars and a blue circle", ("two red stars", "and a blue circle")),
        ("three green triangles", ("three", "green", "triangles")),
        ("a b, c, d, e, f, g, h", ("a b", "c", "d", "e", "f", "g h")),
        ("star", ("star",)),
    ],
)
def test_clauses_of_a_prompt(text: str, found: tuple[str, ...]) -> None:
    assert clauses(text) == found
