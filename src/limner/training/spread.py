"""Where a run's weights are, and who shares the tokens of its samples."""

from __future__ import annotations

import torch

from limner.core.errors import UserError
from limner.core.protocols import Adapter
from limner.core.team import Team
from limner.engine.device import in_crews, join, resolve
from limner.engine.offload import offload
from limner.engine.precision import Precision, checkpoint_activations
from limner.engine.weights import Weights
from limner.policies.denoising import Sampler
from limner.training.config import RunConfig


def team_of(config: RunConfig) -> Team:
    """Return the processes that share a run, in crews that share the tokens of each sample if there is a `context`.

    Raises UserError for more of them than there are groups, and for what a crew cannot do.
    """
    found = join(resolve(config.device))
    count, context = members(config, found.size), config.context
    if count > config.prompts_per_step:
        raise UserError(
            f"{called(config, count)} share whole groups, but an iteration has {config.prompts_per_step}: set "
            f"prompts_per_step to a multiple of {count}, or start fewer"
        )
    return in_crews(found, context)


def called(config: RunConfig, count: int) -> str:
    """Return what so many members of a team are called."""
    return f"{count} processes" if config.context == 1 else f"{count} crews of {config.context} processes"


def members(config: RunConfig, processes: int) -> int:
    """Return how many of a team so many processes are: of those that share the tokens of a sample, each crew is one.

    Raises UserError for a number that is not one of whole crews, and for what a crew does not do, or nobody has tried.
    """
    context = config.context
    if context > 1 and config.shard != "none":
        raise UserError(f"context {context} shares out tokens, and shard {config.shard} weights: take one of them")
    if context > 1 and config.precision.compile:
        raise UserError(f"context {context} exchanges tokens inside blocks: take precision.compile false")
    if context > 1 and isinstance(config.sampler, Sampler) and config.sampler.sizes:
        raise UserError(f"context {context} divides the tokens of one size: leave sampler.sizes out")
    if processes % context:
        there = "1 process is" if processes == 1 else f"{processes} processes are"
        raise UserError(
            f"context {context}: so many processes share the tokens of a sample, and {there} no multiple of that: "
            f"start {context} or more, as with --nproc {context}, or take context 1"
        )
    return processes // context


def share_tokens(weights: Weights, team: Team) -> None:
    """Have the processes of a crew share the tokens of each pass, of all roles.

    Raises UserError for a network that has no plan for that, or whose heads cannot be shared out.
    """
    if team.crew is not None:
        from limner.models.context import share  # here, because it imports diffusers

        share([network for role in weights.roles.values() for network in role.networks.values()], team.crew)


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
    if model.quantize != "none" or config.shard != "none" or config.context > 1 or config.precision.compile:
        raise UserError(
            f"{says} brings blocks as they are: leave out model.quantize, shard, context and precision.compile"
        )
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
