"""What libraries say is said once, and not at any length; their bars are not shown."""

from __future__ import annotations

import logging

import pytest

from limner.core.quiet import MAX_SHOWN, no_bars, say_once


def test_a_message_is_given_once_and_is_not_longer_than_people_read(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("a library")
    say_once("a library")
    logger.warning("The following part was truncated: %s", "star " * 9999)
    logger.warning("The following part was truncated: %s", "star " * 9999)
    logger.warning("short")
    first, second = caplog.messages
    assert first.startswith("The following part was truncated: star star") and len(first) == MAX_SHOWN + 3
    assert second == "short"


def test_bars_are_as_they_were_afterwards() -> None:
    from transformers.utils import logging as library

    before = library.is_progress_bar_enabled()
    with no_bars():
        assert not library.is_progress_bar_enabled()
    assert library.is_progress_bar_enabled() == before
