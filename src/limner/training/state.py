"""What a run must remember, beside its weights, to go on exactly where it stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from limner.core.types import Tree


@dataclass
class State:
    """How far a run has come, and what it has spent in all its sessions.

    `failed` counts the last iterations in a row without a valid sample; `evaluations` are the network evaluations of
    rollouts and updates: one sample through the network once, with or without gradient. `seconds` are those of the
    clock, by phase; `processor_seconds` those of all cores at work, which other programs' work hardly changes. `memory`
    is the algorithm's own, `reward_memory` what the reward remembers: running statistics, multipliers. `behind` are
    earlier weights, by the number of iterations that made them, which the next samples are to be drawn by.
    """

    iteration: int = 0
    failed: int = 0
    invalid: int = 0
    evaluations: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"rollout": 0.0, "reward": 0.0, "update": 0.0})
    processor_seconds: float = 0.0
    memory: dict[str, Any] = field(default_factory=dict)
    reward_memory: dict[str, Any] = field(default_factory=dict)
    behind: dict[int, Tree] = field(default_factory=dict)

    def spend(self, seconds: Mapping[str, float], processor_seconds: float, evaluations: int) -> None:
        """Add what an iteration took."""
        for phase, value in seconds.items():
            self.seconds[phase] += value
        self.processor_seconds += processor_seconds
        self.evaluations += evaluations

    def to_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> State:
        """Return what `to_dict` gave."""
        return cls(**data)
