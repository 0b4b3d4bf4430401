"""Where a run's weights are: spread over its processes, or, of a frozen base, partly in the machine's memory."""

from __future__ import annotations

import torch

from limner.core.errors import UserError
from limner.core.protocols import Adapter
from limner.core.team import Team
from limner.engine.offload import offload
from limner.engine.precision import Precision, checkpoint_activations
from limner.engine.weights import Weights
from limner.training.config import RunConfig


def loaded_on(config: RunConfig, team: Team) -> torch.device:
    """Return where the model is loaded: what one device need not hold is read on the CPU.

    Raises UserError, before anything is loaded, for a torch that cannot spread it, and for blocks that cannot wait.
    """
    if config.model.offload != "none":
        require_waiting(config)
        return torch.device("cpu")
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

    follow(model, team.device, config.model.vae, "shard")
    return over(weights, config.shard, precision, team)


def require_waiting(config: RunConfig) -> None:
    """Raise UserError for a run whose blocks cannot wait: model.offload is of a frozen base, kept as it is, alone."""
    model, says = config.model, f"model.offload {config.model.offload}"
    if model.train.whole:
        raise UserError(
            f"{says} is of a frozen base, and model.train {type(model.train).__name__} changes it: take Lora"
        )
    if model.quantize != "none" or config.shard != "none" or config.precision.compile:
        raise UserError(f"{says} brings blocks as they are: leave out model.quantize, shard and precision.compile")
    if not config.precision.activation_checkpointing:
        raise UserError(
            f"{says}: a backward pass would keep all blocks on the device: set precision.activation_checkpointing true"
        )


def put_away(config: RunConfig, model: Adapter, weights: Weights, team: Team) -> Weights:
    """Return the weights with the blocks of their base in the machine's memory, if they are to wait there."""
    if config.model.offload == "none":
        return weights
    from limner.models.arranged import follow

    follow(model, team.device, config.model.vae, "model.offload")
    weights, bringing = offload(weights, team.device)
    checkpoint_activations(model.networks, weights.replay, bringing)
    return weights
