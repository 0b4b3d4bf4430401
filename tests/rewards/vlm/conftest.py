"""A chat service for each test, and short waits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from limner.judging import patience
from rewards.vlm.server import Chat, serving


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Chat]:
    monkeypatch.setattr(patience, "BACKOFF_SECONDS", 0.001)
    with serving() as running:
        yield running
