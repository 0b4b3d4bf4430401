"""What tests of the bench share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from limner.bench import fields


@pytest.fixture(autouse=True)
def roughly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The least loss of pairs is found roughly, where a test does not say otherwise."""
    for name, value in {"PAIRS": 200, "OTHERS": 200, "TIMES": 1, "GRIDS": (5,)}.items():
        monkeypatch.setattr(fields, name, value)
    fields.least.cache_clear()
    yield
    fields.least.cache_clear()
