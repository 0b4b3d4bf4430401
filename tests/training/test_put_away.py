"""A run whose frozen blocks wait in the machine's memory: what it learns, what it is refused with, what a plan says."""

from __future__ import annotations

import pytest
import torch

from limner.build import assemble
from limner.core.errors import UserError
from limner.core.protocols import Context
from limner.core.rng import Rng
from limner.core.team import ALONE
from limner.core.types import Batch
from limner.engine.blocks import blocks_of
from limner.engine.offload import waiting
from limner.machine.cost import sizes
from limner.machine.memory import Place, phases
from limner.recipes.named import recipe
from limner.recipes.override import override
from limner.training.config import RunConfig
from limner.training.loop import Clock, update
from limner.training.workload import workload

CHECKPOINTS = {"precision.activation_checkpointing": "true"}
AWAY = {"model.offload": "blocks"}


def small(**keys: object) -> RunConfig:
    few = {"prompts_per_step": 2, "group_size": 2, "micro_batch": 4, "evaluation.prompts": "", "device": "cpu"}
    drawn = {"algorithm": "FlowGRPO", "sampler.dynamics": "FlowSDE", "sampler.steps": 3, "algorithm.kl_weight": 0.1}
    return override(recipe("scenes"), {**few, **drawn, **keys})


def test_it_learns_the_same_to_the_bit() -> None:
    learnt = []
    for keys in (CHECKPOINTS, CHECKPOINTS | AWAY):
        config = small(**keys)
        parts = assemble(config).parts
        scored = parts.source.scored(parts.studio, 0, 2, Rng((0,)), Clock(lambda phase: None, ALONE))
        update(parts, Batch(scored.rollout, torch.tensor([1.0, -1.0, 0.5, -0.5])), Context(Rng((1,)), 0, 4))
        learnt.append(torch.cat([each.detach().flatten() for each in parts.weights.parameters().values()]))
    assert torch.equal(*learnt) and parts.stepper.num_skipped == 0


def test_a_plan_counts_what_passes_bring() -> None:
    """On a card all but the frozen blocks stays, and at its peak a pass has two of them at most; a CPU has all."""
    plain, away = sizes(small(**CHECKPOINTS)), sizes(small(**CHECKPOINTS | AWAY))
    network = assemble(small()).parts.weights.roles["policy"].networks["transformer"]
    blocks = [sum(each.nbytes for _, each in waiting(block)) for block in blocks_of(network)]
    assert away.waiting == sum(blocks) > 0.9 * plain.networks and plain.waiting == 0
    for mine, theirs in ((away.sampling, plain.sampling), (away.learning, plain.learning)):
        brought = mine.bytes(4) - theirs.bytes(4)
        assert 0 < brought <= 2 * max(blocks)
    work = workload(small(**CHECKPOINTS | AWAY))
    on_card, here = (phases(away, work, place)[0].bytes["networks"] for place in (Place(True), Place(False)))
    assert (on_card, here) == (plain.networks - sum(blocks), plain.networks)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "set precision.activation_checkpointing true"),
        (CHECKPOINTS | {"model.train": "Full"}, "model.train Full changes it: take Lora"),
        (CHECKPOINTS | {"model.quantize": "int8"}, "leave out model.quantize, shard, context and precision.compile"),
    ],
)
def test_what_cannot_wait_is_refused_before_it_is_loaded(keys: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        assemble(small(**AWAY, **keys))
