"""Every algorithm that scores decisions on o4, the token world, where all that can be written can be summed over.

A part of `limner bench oracles`: written token by token, and by a masked model in random and in learned order
(`limner.bench.masked`). What an entry is measured by is exact: with p(y) the density of its policy,

    J = sum_y p(y) r(y) - beta sum_y p(y) log(p(y) / base(y))

whose best is max r for beta = 0, and beta log sum_y base(y) exp(r(y) / beta) else (`worlds.oracle.tokens`).

A penalty on decisions takes the states that they are made in as given. It follows E[grad KL(. | state)], and not the
gradient of the KL of sequences, which also has what a token does to the KL of those after it. So where it comes to rest
is not the optimum: on o4 at beta = 0.1, followed exactly, at 96.7 % of the best J (`resting`).
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from limner.algorithms.d3po import D3PO
from limner.algorithms.ddpo import DDPO
from limner.algorithms.flow_dppo import FlowDPPO
from limner.algorithms.flow_grpo import FlowGRPO
from limner.algorithms.grpo_guard import GRPOGuard
from limner.algorithms.ppo import PPO
from limner.algorithms.trpo import TRPO
from limner.bench import masked
from limner.bench.oracles import Silent
from limner.build import Assembly, assemble
from limner.core.protocols import Algorithm, Sampling
from limner.core.types import Prompt
from limner.objectives.categorical import Categorical
from limner.policies.masked import MaskedSampler, Unmasking
from limner.policies.tokens import Autoregressive, TokenModel, TokenSampler
from limner.report.file import write_text
from limner.training.config import Full, Model, Optimizer, RunConfig
from limner.training.critical import Critical, Unlike
from limner.training.focus import Everywhere, Focus
from limner.training.loop import Hooks, train
from limner.training.state import State
from limner.worlds.oracle.tokens import LENGTH, Table, TokenOracle, number, rewards, sequences


@dataclass(frozen=True)
class World:
    """How o4 is written: the model, how it is sampled, and the file of what entries reached."""

    path: str
    sampler: Sampling
    file: str
    samples: int
    """Samples of an iteration: with too few a policy makes up its mind before it has seen the best."""


ORACLE = "limner.worlds.oracle.tokens:TokenOracleSettings"
WORLDS = {
    "o4": World("o4", TokenSampler(), "oracles_tokens.json", 128),
    "o4, masked": World("o4-masked", MaskedSampler("random", steps=LENGTH), "oracles_masked.json", 1024),
    "o4, masked, ordered": World(
        "o4-masked", MaskedSampler("plackett_luce", steps=LENGTH), "oracles_ordered.json", 1024
    ),
}
KL = 0.1
"""The weight of penalties: the optimum keeps about half of the base's entropy."""
WIDE: dict[str, Any] = {"clip_low": 0.2, "clip_high": 0.2, "clip_elements": 1}
"""PPO's own range: a token's ratio is that of one choice, not the mean over a latent."""


@dataclass(frozen=True)
class Entry:
    """An algorithm, its learning rate, the weight of the KL in its objective, iterations, groups, what counts."""

    algorithm: Algorithm
    lr: float = 5e-2
    kl_weight: float = 0.0
    steps: int = 300
    group_size: int | None = None
    """None: an iteration has four groups."""
    focus: Focus = field(default_factory=Everywhere)

    def writes(self, world: str) -> bool:
        """Whether it is an entry of a world: a focus is one of tokens that are written in order."""
        return isinstance(self.focus, Everywhere) or isinstance(WORLDS[world].sampler, TokenSampler)


ENTRIES = {
    "Flow-GRPO": Entry(FlowGRPO(**WIDE)),
    "Flow-GRPO, KL 0.1": Entry(FlowGRPO(scale="none", kl_weight=KL, num_updates=1, **WIDE), kl_weight=KL),
    "REINFORCE": Entry(DDPO(surrogate="score")),
    "DDPO": Entry(DDPO(num_updates=2, **WIDE)),
    "PPO": Entry(PPO(**WIDE)),
    "DPOK": Entry(PPO(surrogate="clip", decay=1.0, normalise=False, kl_weight=KL, **WIDE), kl_weight=KL),
    "GRPO-Guard": Entry(GRPOGuard(num_updates=1, **WIDE)),
    "Flow-DPPO": Entry(FlowDPPO(kl_limit=0.1, clip_elements=1, num_updates=1)),
    "TRPO": Entry(TRPO(kl_limit=0.01)),
    # the published clip of .1 has no gradient a tenth away from the base; of a group it learns from one pair
    "D3PO": Entry(D3PO(clip=0.9), lr=0.1, group_size=4),
    "Flow-GRPO, GCPO's tokens": Entry(FlowGRPO(**WIDE), focus=Critical(share=0.25)),
    "Flow-GRPO, STAGE's weights": Entry(FlowGRPO(**WIDE), focus=Unlike()),
}


@dataclass(frozen=True)
class Outcome:
    """What an entry reached: E[r], KL(p || base) in nats, J over the best J, and the share of what could be gained."""

    reward: float
    kl: float
    objective: float
    gained: float


def config(entry: Entry, seed: int, world: str = "o4") -> RunConfig:
    """Return the run of an entry."""
    samples = WORLDS[world].samples
    group_size = entry.group_size or samples // 4
    return RunConfig(
        name="oracle",
        model=Model(kind=ORACLE, path=WORLDS[world].path, train=Full()),
        prompts="oracle:train",
        reward="o4",
        algorithm=entry.algorithm,
        focus=entry.focus,
        sampler=WORLDS[world].sampler,
        optimizer=Optimizer(lr=entry.lr, schedule="cosine"),
        steps=entry.steps,
        prompts_per_step=samples // group_size,
        group_size=group_size,
        micro_batch=2048,
        seed=seed,
        device="cpu",
    )


def log_density(model: TokenModel) -> Float[Tensor, " all"]:
    """Return log p of every sequence, under plain sampling."""
    everything = sequences()
    logits = model.logits(everything, model.encode([Prompt("")]), torch.zeros(len(everything), dtype=torch.int64))
    return Categorical(logits.double()).log_prob(everything).sum(1)


def best(base: Float[Tensor, " all"], worth: Float[Tensor, " all"], kl_weight: float) -> float:
    """Return the most that J can be, for the base's log-density."""
    if not kl_weight:
        return float(worth.max())
    return kl_weight * float((base + worth / kl_weight).logsumexp(0))


def outcome(policy: Float[Tensor, " all"], base: Float[Tensor, " all"], kl_weight: float) -> Outcome:
    """Return what a policy of this log-density has reached."""
    worth, shares = rewards().double(), policy.exp()
    reward, kl, start = float(shares @ worth), float(shares @ (policy - base)), float(base.exp() @ worth)
    return _reached(reward, kl, start, best(base, worth, kl_weight), kl_weight)


def masked_outcome(policy: Unmasking, base: Unmasking, kl_weight: float) -> Outcome:
    """Return what a masked policy has reached; its KL is that of the way by which it writes."""
    worth, (p, q) = rewards().double(), (masked.chances(each) for each in (policy, base))
    reward, start = (masked.value(each, q, 0.0, worth) for each in (p, q))
    kl = -masked.value(p, q, 1.0, torch.zeros_like(worth))
    most = masked.best(q, kl_weight, worth, policy.sampler.order != "random")
    return _reached(reward, kl, start, most, kl_weight)


def _reached(reward: float, kl: float, start: float, most: float, kl_weight: float) -> Outcome:
    reached = reward - kl_weight * kl
    return Outcome(reward, kl, reached / most, (reached - start) / (most - start))


def run(entry: Entry, seed: int = 0, world: str = "o4") -> Outcome:
    """Train an entry and measure it."""
    settings = config(entry, seed, world)
    assembly = assemble(settings)
    train(settings, assembly.parts, State(), Hooks(Silent(), Silent(), lambda state: None, lambda state: {}))
    return measured(assembly, entry.kl_weight)


@torch.no_grad()
def measured(assembly: Assembly, kl_weight: float) -> Outcome:
    """Return what the trained policy of a run has reached."""
    trained, base = assembly.policy("policy"), assembly.policy("reference")
    if isinstance(trained, Unmasking) and isinstance(base, Unmasking):
        return masked_outcome(trained, base, kl_weight)
    p, q = (log_density(cast(Autoregressive, each).model) for each in (trained, base))
    return outcome(p, q, kl_weight)


def bench(folder: Path, seeds: int, names: Sequence[str]) -> str:
    """Run the seeds of entries that the worlds' files in FOLDER lack; write them, return a table of all they hold."""
    reached: dict[tuple[str, str], list[Outcome]] = {}
    for world, how in WORLDS.items():
        path = folder / how.file
        rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        for name in [each for each in names if ENTRIES[each].writes(world)]:
            found = rows.setdefault(name, [])
            for seed in range(len(found), seeds):
                found.append(asdict(run(ENTRIES[name], seed, world)))
                write_text(path, json.dumps(rows, indent=1) + "\n")
                print(f"{name}, {world}, seed {seed}: {100 * found[-1]['objective']:.1f} % of the best", flush=True)
        reached |= {(name, world): [Outcome(**each) for each in found] for name, found in rows.items()}
    return table(reached)


def table(rows: Mapping[tuple[str, str], Sequence[Outcome]]) -> str:
    """Return Markdown: means over seeds, and the least."""
    lines = [
        "| algorithm | world | seeds | E[r] | KL, nats | J of the best J | least | gained, of what can be | least |"
    ]
    lines.append("|---|---|--:|--:|--:|--:|--:|--:|--:|")
    for (name, world), found in rows.items():
        columns = {key: [vars(each)[key] for each in found] for key in ("reward", "kl", "objective", "gained")}
        mean = {key: statistics.mean(column) for key, column in columns.items()}
        cells = [name, world, str(len(found)), f"{mean['reward']:.3f}", f"{mean['kl']:.2f}"]
        for key in ("objective", "gained"):
            cells += [f"{mean[key]:.3f}", f"{min(columns[key]):.3f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def resting(kl_weight: float, whole: bool = False, steps: int = 3000) -> Outcome:
    """Return where the exact gradient comes to rest, with a KL of decisions, or (`whole`) of sequences."""
    table = cast(Table, TokenOracle.load().networks["table"].double())
    base = [(each + table.prompt[0]).detach() for each in table.after]
    logits = [each.clone().requires_grad_(True) for each in base]
    optimizer, everything, worth = torch.optim.Adam(logits, lr=5e-2), sequences(), rewards().double()
    before = [number(everything[:, :i]) for i in range(len(base))]

    def read(each: Sequence[Tensor]) -> tuple[Tensor, list[Categorical]]:
        decisions = [Categorical(one[place]) for one, place in zip(each, before, strict=True)]
        scores = [decision.log_prob(everything[:, i]) for i, decision in enumerate(decisions)]
        return torch.stack(scores).sum(0), decisions

    start, at_base = read(base)
    for _ in range(steps):
        score, decisions = read(logits)
        shares = score.exp()
        kl = torch.stack([mine.kl(theirs) for mine, theirs in zip(decisions, at_base, strict=True)]).sum(0)
        loss = kl_weight * ((shares if whole else shares.detach()) * kl).sum() - shares @ worth
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return outcome(read(logits)[0], start, kl_weight)
