"""Keep diffusers and transformers from talking over limner's own lines, without hiding what a user should act on."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

MAX_SHOWN = 200
"""Characters of a library's message."""


class _WithoutTorchvision(logging.Filter):
    """Drop the notices about torchvision, which limner does not use and does not want installed beside CPU torch."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "requires torchvision" not in record.getMessage()


class _Once(logging.Filter):
    """Let each kind of message, told by its first 60 characters, pass once: a run repeats the same call for hours.

    What it repeats of a prompt is cut: a prompt may have thousands of words.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        said = record.getMessage()
        new = said[:60] not in self.seen
        self.seen.add(said[:60])
        if len(said) > MAX_SHOWN:
            record.msg, record.args = f"{said[:MAX_SHOWN]}...", ()
        return new


_WITHOUT_TORCHVISION = _WithoutTorchvision("torchvision")
_ONCE = _Once()


def quiet_imports() -> None:
    """Silence what transformers says while it is imported; call it before diffusers is. Imports nothing itself."""
    logging.getLogger("transformers.utils.import_utils").addFilter(_WITHOUT_TORCHVISION)


def say_once(logger: str) -> None:
    """Let `logger` give each kind of message once in this process."""
    logging.getLogger(logger).addFilter(_ONCE)


@contextmanager
def no_bars() -> Iterator[None]:
    """Show no progress bars of diffusers and transformers in this block, and afterwards as before."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    silenced = [library for library in (diffusers_logging, transformers_logging) if library.is_progress_bar_enabled()]
    for library in silenced:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in silenced:
            library.enable_progress_bar()


@contextmanager
def in_silence() -> Iterator[None]:
    """Let diffusers and transformers say nothing in this block: for what limner itself looks at, and complains of."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    levels = [(library, library.get_verbosity()) for library in (diffusers_logging, transformers_logging)]
    for library, _ in levels:
        library.set_verbosity(logging.CRITICAL)
    try:
        with no_bars(), warnings.catch_warnings(action="ignore"):
            yield
    finally:
        for library, level in levels:
            library.set_verbosity(level)
