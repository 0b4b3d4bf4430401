"""The errors limner raises on purpose: each says what, where, what it got, and what to do."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable


class LimnerError(Exception):
    """Base of every error that limner raises on purpose."""


class UserError(LimnerError):
    """The request cannot be carried out as given; the message is one line a user can act on.

    The command line prints it without a traceback and exits with code 2.
    """


class UntrustedCode(UserError):
    """A folder that the user only looks at names code that is not limner's, and nobody said that it may run."""


class RunError(LimnerError):
    """A run had to stop (a reward that always fails, losses that are not finite); its last checkpoint stands."""


class LostPeer(RunError):
    """Another of the processes that share a run has ended: why, it says itself."""


class OutOfMemory(RunError):
    """Memory could not be had: in which phase, what was asked for, and what would take less."""

    def __init__(self, phase: str, asked: str, remedy: str = "") -> None:
        super().__init__(phase, asked, remedy)  # all of them, so that it travels between processes
        self.phase, self.asked, self.remedy = phase, asked, remedy

    def __str__(self) -> str:
        return f"out of memory in {self.phase} ({self.asked})" + (f": {self.remedy}" if self.remedy else "")


PEER_LOST = 3
"""Exit code of a process that stopped because another had."""


class JudgeFailure(LimnerError):
    """A judge could not answer (a service that is down, a verdict that cannot be read).

    A reward raises it to mark the batch it was given invalid; the run goes on. Any other exception is a programming
    error and stops the run (BrokenReward).
    """


class BrokenReward(LimnerError):
    """A reward raised what is neither a JudgeFailure nor meant for a user: a programming error, which ends the run.

    The message is one line that names reward and line; its cause has the traceback, and the last checkpoint stands.
    """


CLOSE = 0.65
"""How alike a name must be to one that is known to be a slip of it: shares of letters in common (difflib's ratio)."""


MAX_SHOWN = 80
"""Characters of a value that an error repeats."""


def shown(value: object) -> str:
    """Return a value as an error repeats it: the middle of a long one is left out."""
    try:
        text = repr(value)
    except ValueError:  # Python writes out no more than 4300 digits
        return "a number of too many digits"
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN // 2]}...{text[-MAX_SHOWN // 4 :]}"


def message(error: BaseException) -> str:
    """Return what an error of somebody else's code says, on one line; also of one that cannot be written out."""
    return " ".join(str(traceback.TracebackException(type(error), error, None)).split())


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of an error message: the nearest known name, and all of them."""
    names = sorted(known)
    written = {each.lower(): each for each in names}
    close = difflib.get_close_matches(name[:MAX_SHOWN].lower(), written, n=1, cutoff=CLOSE)
    hint = f"; did you mean {written[close[0]]!r}?" if close else ""
    return f"{hint} (known: {', '.join(names)})"
