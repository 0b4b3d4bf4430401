"""What a run must remember to go on exactly where it stopped."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Spent:
    """What a run has used so far; seconds are those of this and earlier sessions of the run."""

    rollout: float = 0.0
    reward: float = 0.0
    update: float = 0.0
    evaluations: int = 0
    """Network evaluations: one sample through the network once, with or without gradient."""


@dataclass
class Progress:
    """How far a run has come."""

    iteration: int = 0
    optimizer_step: int = 0
    invalid: int = 0
    spent: Spent = field(default_factory=Spent)
