"""Make a student of few steps of a denoiser that needs many steps and guidance.

A student is sampled as consistency models are, by `CPS(1)`: at time t it says at once what data the path through x_t
leads to, x0 = f(x_t, t), and noise is drawn anew for the next time. It learns from whole paths of its teacher, and not
from itself:

    E sum_k | f(x_k, t_k) - x0_k |^2 / D,    x0_k = where the teacher's guided ODE leads from x_k,
    x_1 ~ N(0, I),    x_{k+1} = alpha(t_{k+1}) x0_k + sigma(t_{k+1}) noise

The x_k are those that a perfect student would meet, and guidance, which costs the teacher a second evaluation a step,
becomes the student's own. Stages, each resumable: the teacher's chains, then the student.

Source: Song et al., Consistency Models, arXiv:2303.01469, algorithm 1 (how it is sampled), and LCM, arXiv:2310.04378,
section 4.2 (guidance is distilled). Where those take the student's own answer a step further on for a target, which
spares the teacher's path, this takes the end of that path, which is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple, Protocol, Self, runtime_checkable

import torch
import yaml
from jaxtyping import Float, Int
from torch import Tensor, nn

from limner.core.errors import UserError
from limner.core.protocols import Adapter, Denoiser
from limner.core.rng import Rng
from limner.core.settings import Count, Natural, NotNegative, Range, Share, settings
from limner.core.team import ALONE
from limner.core.tree import concatenate, select, tree_map
from limner.core.types import Condition, Prompt
from limner.diffusion.dynamics import DPMSolver
from limner.diffusion.prediction import to_estimate
from limner.diffusion.schedule import add_noise
from limner.policies.denoising import MAX_STEPS, Denoising, Guidance, Sampler
from limner.training.fit import Fit, Log, save

CHAINS, STUDENT = "chains.pt", "student.pt"


@settings
class Distillation:
    """How a student is made."""

    prompts: str = ""
    """What the teacher draws: a file, or a split of a world, as in scenes:train; empty: the recipe's."""
    start: str = ""
    """What a run exported, a LoRA or networks: the teacher is the model as that run tuned it; empty: as it is."""
    seed: Natural = 0
    """Of everything that is random."""
    steps: Annotated[int, Range(least=2, most=MAX_STEPS)] = 4
    """Network evaluations of one of the student's samples."""
    guidance: Guidance = 4.0
    """The teacher's; the student needs none."""
    substeps: Count = 3
    """Steps of the teacher, by DPM-Solver, within each of the student's."""
    chains: Annotated[int, Range(least=1, most=10**7)] = 2400
    """Chains that the teacher is asked about: `steps` pairs each."""
    updates: Count = 400
    batch: Annotated[int, Range(least=1, most=10_000)] = 96
    """Pairs of an update, and chains that the teacher goes on with at once."""
    lr: Annotated[float, Range(above=0, below=1)] = 1e-3
    warmup: Count = 20
    ema: Share = 0.99
    checkpoint_seconds: NotNegative = 120.0


@runtime_checkable
class Distillable(Adapter, Protocol):
    """An adapter that a student of few steps can be made of."""

    def few_step(self) -> Self:
        """Return a copy that is sampled in few steps, whose networks can be trained."""
        ...

    def export_pipeline(self, folder: Path) -> None:
        """Write the whole pipeline as the library loads it."""
        ...


class Pairs(NamedTuple):
    """States and where the teacher leads from them, for prompts by their row of the condition."""

    x: Float[Tensor, "pairs *latent"]
    t: Float[Tensor, " pairs"]
    x0: Float[Tensor, "pairs *latent"]
    prompt: Int[Tensor, " pairs"]


def distill(
    teacher: Denoiser, student: Denoiser, prompts: Sequence[Prompt], config: Distillation, folder: Path, log: Log
) -> None:
    """Train the networks of `student`, which are the teacher's when it begins, by what is left to do in `folder`.

    `student.times` are the times that it will be sampled at.
    """
    condition = teacher.encode(prompts)
    guided = Denoising(teacher, Sampler(DPMSolver(), config.steps * config.substeps, guidance=config.guidance))
    pairs = gather(guided, student.times(config.steps), condition, len(prompts), config, folder / CHAINS, log)
    networks = nn.ModuleDict(dict(student.networks))
    fit = Fit(networks, config.lr, 0.0, config.updates, config.warmup, config.ema, ALONE)
    networks.train()
    for step in fit.steps(folder / STUDENT, config.checkpoint_seconds):
        rows = Rng((config.seed, "updates", step)).generator()
        chosen = select(pairs, torch.randint(len(pairs.x), (config.batch,), generator=rows))
        error = errors(student, chosen, condition).mean()
        fit.update(error)
        if step % 20 == 0:
            log({"stage": "student", "step": step, "error": error.item()} | fit.seconds())
    fit.use_average()
    networks.eval()


def errors(student: Denoiser, pairs: Pairs, condition: Condition) -> Float[Tensor, " batch"]:
    """Return |f(x, t) - x0|^2 / D of pairs."""
    device = student.latent().device
    x, t, x0, prompt = tree_map(lambda tensor: tensor.to(device), pairs)
    found = to_estimate(student.prediction, student.predict(x, t, condition, prompt), x, t, student.schedule)
    return (found.x0 - x0).square().flatten(1).mean(1)


@torch.no_grad()
def gather(
    teacher: Denoising,
    times: Float[Tensor, " points"],
    condition: Condition,
    num_prompts: int,
    config: Distillation,
    path: Path,
    log: Log,
) -> Pairs:
    """Return the pairs of all chains; those that `path` holds are not made again."""
    parts: list[Pairs] = [Pairs(**torch.load(path, weights_only=True))] if path.exists() else []
    done = len(parts[0].x) // config.steps if parts else 0
    rng = Rng((config.seed, "chains"))
    for first in range(done, config.chains, config.batch):
        ids = torch.arange(first, min(first + config.batch, config.chains))
        prompt = (rng.child("prompt").uniform(ids, ()) * num_prompts).long()
        noise = rng.child("noise").normal(ids, (len(times) - 1, *teacher.model.latent().shape))
        parts.append(chain(teacher, times, config.substeps, condition, prompt, noise))
        parts = [concatenate(parts)]
        save(path, parts[0]._asdict())
        log({"stage": "chains", "step": first + len(ids)})
    return parts[0]


def chain(
    teacher: Denoising,
    times: Float[Tensor, " points"],
    substeps: int,
    condition: Condition,
    prompt: Int[Tensor, " batch"],
    noise: Float[Tensor, "batch steps *latent"],
) -> Pairs:
    """Return the pairs of a chain for each prompt, at all `times` but the last, which is 0; `noise` is that of each."""
    device = teacher.model.latent().device
    noise, index = noise.to(device), prompt.to(device)
    x, pairs = noise[:, 0], []
    for k in range(len(times) - 1):
        x0 = follow(teacher, x, finer(times[k:], substeps), condition, index)
        pairs.append(tree_map(Tensor.cpu, Pairs(x, times[k].expand(len(x)), x0, prompt)))
        if k + 2 < len(times):
            x = add_noise(teacher.model.schedule, x0, noise[:, k + 1], times[k + 1].expand(len(x)).to(device))
    return concatenate(pairs)


def taught(path: Path) -> tuple[Pairs, str]:
    """Return the pairs that a distillation keeps at `path`, and the source of the prompts that they are of.

    Raises UserError where it keeps none.
    """
    if not path.is_file():
        raise UserError(f"{path} is not there: give the {CHAINS} of a folder that limner distill wrote")
    asked = yaml.safe_load((path.parent / "config.yaml").read_text(encoding="utf-8"))
    return Pairs(**torch.load(path, weights_only=True)), asked["prompts"]


def finer(times: Float[Tensor, " points"], substeps: int) -> Float[Tensor, " finer"]:
    """Return times with each interval divided into equal ones."""
    shares = torch.arange(substeps) / substeps
    between = times[:-1, None] + (times[1:] - times[:-1])[:, None] * shares
    return torch.cat([between.flatten(), times[-1:]])


def follow(
    policy: Denoising,
    x: Float[Tensor, "batch *latent"],
    times: Float[Tensor, " points"],
    condition: Condition,
    prompt_index: Int[Tensor, " batch"],
) -> Float[Tensor, "batch *latent"]:
    """Return where a policy's noise-free dynamics leads from x at the first of `times` to the last."""
    before, nobody = None, torch.zeros(len(x), dtype=torch.bool)
    for t, s in zip(times[:-1].to(x), times[1:].to(x), strict=True):
        span = (t.expand(len(x)), s.expand(len(x)))
        estimate, following = policy.step(x, span, condition, prompt_index, nobody, before)
        x, before = following.mean, (span[0], estimate)
    return x
