"""A run as it fits a card: by the cheapest settings that leave it the same run."""

from __future__ import annotations

from limner.core.errors import UserError
from limner.machine.plan import GIB, plan, room
from limner.machine.ways import Way
from limner.training.config import RunConfig

ANOTHER_RUN = frozenset({"prompts_per_step", "model.settings.resolution", "model.settings.width"})
"""Keys that change what is learned from, and are left to people."""


def way_to_fit(config: RunConfig, card: int, processes: int = 1) -> Way | None:
    """Return the cheapest way in which a run fits accelerators of `card` GB, by `limner plan`; None: as it is.

    Raises UserError if only another run fits, or none, and for what cannot be planned.
    """
    found = plan(config, card, processes)
    top = found.peak
    if top.peak <= room(card):
        return None
    if same := [way for way in found.ways if not ANOTHER_RUN & way.keys.keys()]:
        return same[0]
    smaller = "".join(f"; {way.flags} would ({way.price})" for way in found.ways[:1])
    raise UserError(
        f"card {card} GB: this run takes {top.peak / GIB:.1f} GiB in {top.name}, as predicted, and nothing that leaves "
        f"it the same run makes it fit{smaller}"
    )
