"""How many examples a fuzzing test tries: few in every run of the suite, `LIMNER_FUZZ` times as many when asked."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from hypothesis import settings

Test = TypeVar("Test", bound=Callable[..., None])
TIMES = int(os.environ.get("LIMNER_FUZZ", "1"))


def examples(number: int) -> Callable[[Test], Test]:
    """Mark a test to try `number` examples, the same ones each time; with LIMNER_FUZZ others, and more of them."""
    return settings(max_examples=number * TIMES, derandomize=TIMES == 1, deadline=None)
