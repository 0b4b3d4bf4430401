"""Every algorithm on every kind of generator: an iteration has finite metrics and moves the weights, or is refused."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from limner.algorithms.ddpo import DDPO
from limner.algorithms.flow_grpo import FlowGRPO
from limner.algorithms.ppo import PPO
from limner.algorithms.reward_weighted import RewardWeighted
from limner.build import Assembly, assemble
from limner.core.errors import UserError
from limner.core.protocols import Algorithm, Context
from limner.core.quiet import no_bars
from limner.core.rng import Rng
from limner.diffusion.dynamics import DDIM, Dynamics, EulerODE, FlowSDE
from limner.models.sd.adapter import SD
from limner.models.sd3.settings import SD3Settings
from limner.models.wan.adapter import Wan
from limner.models.wan.settings import WanSettings
from limner.policies.denoising import Sampler
from limner.registry.find import find
from limner.registry.names import ALGORITHMS
from limner.rollout.collect import collect
from limner.training.config import Evaluation, Full, Lora, Model, Optimizer, RunConfig
from limner.training.loop import Hooks, train
from limner.training.preflight import preflight
from limner.training.state import State
from praise import praise, quality, step_along
from run.miniature import Miniature
from toys import Silent, losses

ORACLE = "limner.worlds.oracle.model:OracleSettings"


@dataclass(frozen=True)
class Generator:
    """A model, what judges it, and the dynamics by which it draws decisions."""

    model: Model
    prompts: str
    reward: str
    stochastic: Dynamics


@pytest.fixture(scope="module")
def generators(miniature: Miniature, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Generator]:
    folder, lora = tmp_path_factory.mktemp("matrix"), Lora(rank=2, alpha=4)
    prompts, redness = str(miniature.prompts), miniature.reward("redness")
    sd3 = Model("sd3", str(miniature.model), SD3Settings(max_sequence_length=0), lora)
    found = {
        "sd3": Generator(sd3, prompts, redness, FlowSDE()),
        "sd3-full": Generator(replace(sd3, train=Full()), prompts, redness, FlowSDE()),
        "oracle-flow": Generator(Model(ORACLE, "o1", train=Full()), "oracle:train", "o1", FlowSDE()),
        "oracle-noise": Generator(Model(ORACLE, "o2-noise", train=Full()), "oracle:train", "o2", DDIM()),
    }
    with no_bars():
        for kind in ("sd15", "sd21", "sdxl"):
            SD.tiny(kind, folder / kind)
            found[kind] = Generator(Model("sd", str(folder / kind), None, lora), prompts, redness, DDIM())
        Wan.tiny(folder / "wan")
    clips = WanSettings(resolution=32, num_frames=5, max_sequence_length=8)
    found["wan"] = Generator(Model("wan", str(folder / "wan"), clips, Full()), prompts, "video_flicker", FlowSDE())
    return found


def config(generator: Generator, name: str) -> RunConfig:
    algorithm = find(ALGORITHMS, "algorithm", name)()
    return RunConfig(
        name="matrix",
        model=generator.model,
        prompts=generator.prompts,
        reward=generator.reward,
        algorithm=algorithm,
        sampler=Sampler(generator.stochastic if algorithm.needs.path else EulerODE(), steps=5),
        optimizer=Optimizer(lr=1e-3),
        evaluation=Evaluation(),
        steps=1,
        prompts_per_step=2,
        group_size=4,
        micro_batch=16,
        device="cpu",
    )


def weights(assembly: Assembly) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1).clone() for p in assembly.parts.weights.parameters().values()])


@pytest.mark.parametrize("kind", ["sd3", "sd3-full", "sd15", "sd21", "sdxl", "wan", "oracle-flow", "oracle-noise"])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_praise_makes_a_sample_likelier_and_an_iteration_teaches(
    generators: dict[str, Generator], kind: str, name: str
) -> None:
    """A small step along the gradient of one good sample: its log-probability rises, or its restoration error falls.

    From the weights before that step, an iteration has finite metrics, judges every sample and moves the weights.
    """
    settings, kept = config(generators[kind], name), Silent()
    if settings.algorithm.needs.outcome:
        with pytest.raises(UserError, match=f"{name} follows a gradient through the one decision .* sampler OneStep"):
            assemble(settings)
        return
    assembly, context = assemble(settings), Context(Rng(("praise",)), 0, 16)
    parts, start = assembly.parts, weights(assembly)
    cache, prompts, path = parts.studio.cache, list(parts.studio.prompts[:2]), parts.algorithm.needs.path
    rollout = collect(parts.studio.policy, cache, prompts, 4, rng=context.rng, step=0, record=path, micro_batch=16)
    trained = list(parts.weights.parameters().values())
    for output in losses(parts.algorithm, parts.actors, praise(rollout, parts.algorithm.needs.pairs), context):
        output.loss.backward()
    before = quality(parts.algorithm, parts.actors, rollout, context)
    step_along([torch.zeros_like(p) if p.grad is None else p.grad for p in trained], trained, 1e-3)
    assert quality(parts.algorithm, parts.actors, rollout, context) > before

    torch.nn.utils.vector_to_parameters(start.clone(), trained)
    for parameter in trained:
        parameter.grad = None
    train(settings, parts, State(), Hooks(kept, kept, lambda state: None, lambda state: {}))
    assert all(math.isfinite(value) for value in kept.metrics.values()), kept.metrics
    assert kept.metrics.get("skipped", 0) == kept.metrics["invalid"] == 0
    after = weights(assembly)
    assert after.isfinite().all() and not torch.equal(after, start)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_sampler_without_decisions_is_refused_where_decisions_are_needed(
    generators: dict[str, Generator], name: str, tmp_path: Path
) -> None:
    algorithm = find(ALGORITHMS, "algorithm", name)()
    settings = config(generators["sd3"], name)
    if not algorithm.needs.path:
        assert replace(settings, sampler=Sampler(EulerODE())).algorithm == algorithm
        return
    with pytest.raises(UserError, match="scores stochastic steps.*take FlowSDE, CPS or DanceSDE, or an algorithm"):
        replace(settings, sampler=Sampler(EulerODE()))


@pytest.mark.parametrize(
    "algorithm", [DDPO(min_count=2), PPO(), RewardWeighted(), RewardWeighted(weight="reward")], ids=str
)
def test_what_compares_no_group_learns_from_one_sample(generators: dict[str, Generator], algorithm: Algorithm) -> None:
    settings = config(generators["oracle-flow"], type(algorithm).__name__)
    settings = replace(settings, algorithm=algorithm, group_size=1, prompts_per_step=1, steps=4)
    preflight(settings, assemble(settings).parts)
    assembly, kept = assemble(settings), Silent()
    before = weights(assembly)
    train(settings, assembly.parts, State(), Hooks(kept, kept, lambda state: None, lambda state: {}))
    assert not torch.equal(weights(assembly), before)
    with pytest.raises(UserError, match="group_size is 1, but the reward rank.* compares the samples of a group"):
        assemble(replace(settings, reward=f"rank({settings.reward})"))


@pytest.mark.parametrize("algorithm", [FlowGRPO(), RewardWeighted(weight="best")], ids=str)
def test_what_compares_a_group_refuses_one_sample(generators: dict[str, Generator], algorithm: Algorithm) -> None:
    with pytest.raises(UserError, match=f"group_size is 1, but {type(algorithm).__name__} compares the samples"):
        replace(config(generators["oracle-flow"], "FlowGRPO"), algorithm=algorithm, group_size=1)
