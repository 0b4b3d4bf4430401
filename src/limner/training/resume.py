"""Everything that another session needs to go on exactly where this one is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limner.engine.shards import gathered
from limner.training.loop import Parts
from limner.training.state import State


def everything(parts: Parts, state: State) -> dict[str, Any]:
    """Return it; what is spread over processes is whole, and the leader's, and every process asks alike."""
    found: dict[str, Any] = {
        "state": state.to_dict(),
        "weights": parts.weights.state(),
        "stepper": parts.stepper.state(),
        "ema": parts.ema.state() if parts.ema is not None else {},
    }
    return {name: gathered(part, parts.team) for name, part in found.items()}


def put_back(parts: Parts, found: Mapping[str, Any]) -> State:
    """Put weights, optimizer and average back as `everything` returned them, in parts again; return the state."""
    parts.weights.load_state(found["weights"])
    parts.stepper.load_state(found["stepper"])
    if parts.ema is not None:
        parts.ema.load_state(found["ema"])
    return State.from_dict(found["state"])
