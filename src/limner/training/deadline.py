"""When a session of a run stops, so that what it has done is kept before its time is over."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch

from limner.core.team import Team


@dataclass
class Deadline:
    """Passed where one more iteration, as long as the longest so far, would end later than `seconds` after `began`.

    Of a team all stop after the same iteration. 0 seconds: never; `began` is of the monotonic clock.
    """

    seconds: float
    began: float
    team: Team
    longest: float = 0.0
    last: float = field(default_factory=time.monotonic)

    def passed(self) -> bool:
        """Tell, at the end of an iteration, whether to stop."""
        if not self.seconds:
            return False
        now = time.monotonic()
        self.longest, self.last = max(self.longest, now - self.last), now
        late = now + self.longest > self.began + self.seconds
        return self.team.told(lambda: bool(self.team.sum(torch.tensor(float(late)))))
