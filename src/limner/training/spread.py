"""A run's weights, spread over its processes."""

from __future__ import annotations

import torch

from limner.core.protocols import Adapter
from limner.core.team import Team
from limner.engine.precision import Precision
from limner.engine.weights import Weights
from limner.training.config import RunConfig


def loaded_on(config: RunConfig, team: Team) -> torch.device:
    """Return where the model is loaded: what is spread over devices need not fit on one, and is cut on the CPU.

    Raises UserError, before anything is loaded, for a torch that cannot spread it.
    """
    if config.shard == "none" or team.size == 1:
        return team.device
    from limner.engine.spread import require_torch  # here, because it imports FSDP

    require_torch()
    return torch.device("cpu")


def is_hollow(config: RunConfig, team: Team) -> bool:
    """Return whether networks get their numbers from the leader, which alone reads them; LoRAs are added to numbers."""
    return config.shard != "none" and team.size > 1 and not team.leads and not config.model.loras


def spread(
    config: RunConfig, model: Adapter, weights: Weights, precision: Precision, team: Team
) -> tuple[Weights, Team]:
    """Return weights of which each process holds a part, and the team that passes through them together.

    The rest of the model is brought to the team's device. Raises UserError for a model that has no blocks.
    """
    if config.shard == "none" or team.size == 1:
        return weights, team
    from limner.engine.spread import spread as over  # here, because it imports FSDP
    from limner.models.arranged import follow

    follow(model, team.device, config.model.vae)
    return over(weights, config.shard, precision, team)
