"""One line that says what a run does now, how well, and how long it still takes."""

from __future__ import annotations

import importlib
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TextIO

BAR = 18
WINDOW = 20
"""Iterations whose mean time predicts the rest."""


def in_notebook() -> bool:
    """Tell whether a notebook shows what this process says."""
    return "ipykernel" in sys.modules


class Progress:
    """Show a run on a terminal as one line that is rewritten; elsewhere, and when `quiet`, as plain lines.

    In a notebook it is tqdm's bar.

    A plain line is written when an iteration ends, at most one in `every` seconds, and always for the last.
    The time left counts an evaluation at the end to be as long as the one at the start.
    """

    def __init__(
        self,
        name: str,
        steps: int,
        *,
        done: int = 0,
        quiet: bool = False,
        every: float = 5.0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.steps, self.done, self.every = name, steps, done, every
        self.stream = sys.stderr if stream is None else stream
        self.bar: Any = None
        if in_notebook() and stream is None and not quiet:
            self.bar = importlib.import_module("tqdm.auto").tqdm(total=steps, initial=done, desc=name)
        self.live = self.bar is not None or (self.stream.isatty() and not quiet)
        self._clock = clock
        self._phase, self._part, self._reward = "start", "", ""
        self._drawn = self._opened = clock()
        self._ends: deque[float] = deque(maxlen=WINDOW + 1)
        self._opening = 0.0
        self._width = 0

    def phase(self, name: str, part: float | None = None) -> None:
        """Say what happens now; `part` in [0, 1] is the share of this phase that is done."""
        if not self._ends and name == "rollout":
            self._ends.append(self._clock())
            self._opening = self._ends[0] - self._opened if self._phase == "evaluate" else 0.0
        elif not self._ends and name == "evaluate" and self._phase != "evaluate":
            self._opened = self._clock()
        self._phase = name
        self._part = "" if part is None else f" {part:.0%}"
        if self.live:
            self._rewrite()

    def step(self, done: int, mean: float, spread: float) -> None:
        """Say that `done` iterations are finished, and the reward of the last: its mean and standard deviation."""
        self.done = done
        self._ends.append(self._clock())
        self._reward = f"reward {mean:.3f} ± {spread:.3f}"
        if self.live:
            self._rewrite()
        elif done == self.steps or self._clock() - self._drawn >= self.every:
            self._drawn = self._clock()
            print(f"{self.name}  {self._count()}  {self._reward}  {self._left()}", file=self.stream, flush=True)

    def say(self, text: str) -> None:
        """Print a line of its own, above the progress line."""
        if self.bar is not None:
            self.bar.write(text, file=self.stream)
            return
        if self.live:
            self.stream.write("\r" + " " * self._width + "\r")
        print(text, file=self.stream, flush=True)
        if self.live:
            self._rewrite()

    def close(self) -> None:
        """Leave the line as it stands and go to the next one."""
        if self.bar is not None:
            self.bar.close()
        if self.live and self._width:
            self.stream.write("\n")
            self.stream.flush()
            self._width = 0

    def seconds_left(self) -> float | None:
        """Return the seconds the rest will take, None before the first iteration is finished."""
        if len(self._ends) < 2:
            return None
        each = (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)
        since = self._clock() - self._ends[-1]
        return max((self.steps - self.done) * each + self._opening - since, 0.0)

    def _count(self) -> str:
        return f"{self.done:>{len(str(self.steps))}}/{self.steps}"

    def _left(self) -> str:
        seconds = self.seconds_left()
        if seconds is None:
            return ""
        minutes, rest = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{rest:02d} left" if hours else f"{minutes}:{rest:02d} left"

    def _rewrite(self) -> None:
        if self.bar is not None:
            self.bar.n = self.done
            self.bar.set_postfix_str("  ".join(filter(None, (f"{self._phase}{self._part}", self._reward))))
            return
        filled = round(BAR * self.done / max(self.steps, 1))
        bar = "━" * filled + "─" * (BAR - filled)
        phase = f"{self._phase}{self._part}".ljust(len("evaluate 100%"))
        line = f"{self.name}  {bar}  {self._count()}  {phase}  {self._reward}  {self._left()}".rstrip()
        try:
            line.encode(self.stream.encoding or "ascii")
        except UnicodeEncodeError:
            line = line.replace("━", "#").replace("─", "-").replace("±", "+-")
        line = line[: shutil.get_terminal_size().columns - 1]
        self.stream.write("\r" + line.ljust(self._width))
        self.stream.flush()
        self._width = len(line)
