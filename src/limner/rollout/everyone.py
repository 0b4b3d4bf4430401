"""What the members of a team know of one another's samples."""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn

from limner.core.team import Team
from limner.core.types import Rollout, Scored, Trajectory


class Elsewhere:
    """States, and choices, that stay with their processes: to read them raises ValueError."""

    @property
    def choices(self) -> NoReturn:
        """Raise, as `features` does."""
        self.features()

    def features(self) -> NoReturn:
        """Raise: an algorithm that reads the states of all samples says so (`Needs.alone`)."""
        raise ValueError("the states of a team's samples are not gathered: say `alone` in the algorithm's needs")


def everyones(scored: Scored, team: Team) -> tuple[Scored, slice]:
    """Return the judged samples of all members, the same on each, and which of the rows are this member's.

    Of all samples there is what statistics are made of: prompt, group, id, rewards, and which decisions are shared.
    What is large stays with its member: samples, states and conditions are empty, with more than one member. Columns
    and terms have the same names everywhere, as `judge` sees to.
    """
    mine = team.rows(len(scored.rollout))
    if team.size == 1:
        return scored, mine
    every = Scored(
        rollout=_ledger(scored.rollout, team),
        rewards={name: team.gather(column) for name, column in scored.rewards.items()},
        valid=team.gather(scored.valid),
        total=team.gather(scored.total),
        terms={name: replace(term, value=team.gather(term.value)) for name, term in scored.terms.items()},
    )
    return every, mine


def _ledger(rollout: Rollout, team: Team) -> Rollout:
    before = team.rows(len(rollout.prompts)).start
    ids = team.gather(rollout.id)
    return replace(
        rollout,
        prompts=team.gather_objects(list(rollout.prompts)),
        group=team.gather(rollout.group),
        prompt_index=team.gather(rollout.prompt_index + before),
        condition=None,
        sample=rollout.sample.new_empty(len(ids), 0),
        trajectory=None if rollout.trajectory is None else _shared(rollout.trajectory, team),
        id=ids,
        region=None,
    )


def _shared(path: Trajectory, team: Team) -> Trajectory:
    """Return which decisions count and which are shared, without the decisions."""
    mask, node, length = (team.gather(column) for column in (path.mask, path.node, path.length))
    return Trajectory(Elsewhere(), length, None, mask, node)
