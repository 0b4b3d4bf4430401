"""Denoising as a policy: x_t is the state, the next latent the choice, one network evaluation a decision.

`Sampler` says how samples are drawn, `Denoising` draws them with a model. The sampler and the loss meet in `step`: what
was recorded while sampling is scored by the same few lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, TypeAlias, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from limner.core.errors import UserError
from limner.core.needs import Renoising
from limner.core.protocols import Algorithm, Denoiser
from limner.core.rng import Rng
from limner.core.settings import Count, Named, Natural, Range, settings
from limner.core.transfer import Behind, sent
from limner.core.tree import at, select, tree_map
from limner.core.types import Condition, Decisions, Renoised, Rollout, Sampled
from limner.diffusion.dynamics import (
    Dynamics,
    EulerODE,
    FlowSDE,
    Multistep,
    Windowed,
)
from limner.diffusion.gaussian import Gaussian
from limner.diffusion.prediction import Estimate, to_estimate
from limner.diffusion.schedule import add_noise
from limner.diffusion.timesteps import (
    Grid,
    WindowSchedule,
    logit_normal,
    logit_normal_cdf,
    sliding_start,
    window,
)
from limner.policies.guided import Rescaling, guided
from limner.policies.plan import Plan, Walk
from limner.policies.sized import sized

MAX_STEPS = 10_000
"""Of one sample; a scheduler's own grid has 1000."""
Guidance: TypeAlias = Annotated[float, Range(least=-1000, most=1000)]
"""A scale of classifier-free guidance; beyond a few tens there is no picture left."""


@settings
class Sampler:
    """How a denoiser's samples are drawn: by `dynamics`, in `steps` steps.

    With `window` = 0 every step but the last is a decision (the last one, to t = 0, follows the ODE: noise added there
    would stay in the picture). With `window` > 0 only that many steps in a row are, from a start in `window_range`
    (inclusive): drawn for each group, or, with another `window_schedule` than "random" (MixGRPO), sliding by
    `window_stride` after at most `window_every` iterations (`diffusion.timesteps.sliding_start`). The others follow the
    ODE.

    With `shared_start` a group begins with one noise (DanceGRPO, MixGRPO). Up to its window its samples are then one,
    computed once, and what tells them apart is what happened in the window: credit without luck of the start (the
    branches of TempFlow-GRPO, arXiv:2508.04324, for a window of one step).

    `splits` are steps at which every branch of a group divides in two: a group is a tree with 2^splits leaves, one
    noise at its root, and a branch's noise as its own until it divides. What leaves share is computed, recorded and
    counted once, under the first of them (`policies.plan`).
    Source: DDPO, arXiv:2305.13301, section 4.2 (denoising as a decision process); MixGRPO, arXiv:2507.21802 (windows);
    BranchGRPO, arXiv:2509.06040 (trees; its code scales the noise of a split and scores it unscaled, this does not).
    """

    dynamics: Annotated[Dynamics, Named("dynamics")] = field(default_factory=FlowSDE)
    """How a latent and its estimate become the next latent, with or without noise."""
    steps: Annotated[int, Range(least=1, most=MAX_STEPS)] = 10
    """Network evaluations of a sample (twice as many with guidance)."""
    grid: Grid = "own"
    """The times of the steps: those of the model's own scheduler, or equal ones, shifted as it shifts."""
    window: Natural = 0
    """Decisions in a row, of all steps; 0: every step but the last."""
    window_range: tuple[int, int] = (0, 0)
    """The first and the last step at which a window may start."""
    window_schedule: WindowSchedule = "random"
    """Whether each group's window starts anywhere in that range, or all slide through it."""
    window_stride: Count = 1
    """How far a window slides."""
    window_every: Count = 25
    """Iterations, at most, until it slides."""
    shared_start: bool = False
    splits: tuple[int, ...] = ()
    guidance: Guidance = 1.0
    """The scale of classifier-free guidance; 1: none."""
    update_guidance: Guidance | None = None
    """The scale by which finished samples that are noised again are restored in updates; none: the same."""
    sizes: tuple[str, ...] = ()
    """Height x width in pixels, as in 768x512, one for an iteration, in turn; empty: the model's own, always."""
    keep: Literal["device", "host"] = "device"
    """Where recorded decisions wait for the update: beside the network, or in the machine's memory."""

    def __post_init__(self) -> None:
        if self.dynamics.stochastic and self.steps < 2:
            raise UserError("sampler.steps must be at least 2 where steps are stochastic: the last one never is, got 1")
        low, high = self.window_range
        if self.window > self.steps - 1:
            raise UserError(
                f"sampler.window {self.window}: of {self.steps} steps at most {self.steps - 1} are stochastic, since "
                "the last one never is; lower it, or raise sampler.steps"
            )
        if self.window and not 0 <= low <= high <= self.steps - 1 - self.window:
            raise UserError(
                f"sampler.window_range {low, high}: a window of {self.window} must start between 0 and "
                f"{self.steps - 1 - self.window}, since the last of {self.steps} steps is never stochastic"
            )
        if list(self.splits) != sorted({split for split in self.splits if 0 <= split < self.steps - 1}):
            raise UserError(
                f"sampler.splits {self.splits} must rise, from 0 on, to {self.steps - 2} at most, since the last of "
                f"{self.steps} steps is never stochastic"
            )
        if self.splits and (self.window or self.shared_start or not self.dynamics.stochastic):
            raise UserError(
                "sampler.splits divides a group at stochastic steps, from one start that all share: it needs "
                f"stochastic dynamics (got {self.dynamics}), window 0 (got {self.window}) and shared_start false"
            )

    def policy(self, model: Denoiser) -> Denoising:
        """Return the policy that draws from `model` so. Raises UserError for sizes that the model does not draw."""
        for size in self.sizes:
            sized(model, size)
        return Denoising(model, self)

    def require(self, algorithm: Algorithm, group_size: int) -> None:
        """Raise UserError where `algorithm` cannot learn from groups that are drawn so."""
        name = type(algorithm).__name__
        if self.splits and group_size != 2 ** len(self.splits):
            raise UserError(
                f"sampler.splits {self.splits} divides a group into {2 ** len(self.splits)} samples, "
                f"but group_size is {group_size}: make them equal"
            )
        if algorithm.needs.tree and not self.splits:
            raise UserError(
                f"{name} with algorithm.scale depth compares the decisions of each depth of a tree: set "
                "sampler.splits, or take scale group"
            )
        if algorithm.needs.path and not self.dynamics.stochastic:
            raise UserError(
                f"{name} scores stochastic steps, but the sampler's dynamics {self.dynamics} has none: take FlowSDE, "
                "CPS or DanceSDE, or an algorithm that needs no path, DiffusionNFT or AWM"
            )
        if algorithm.needs.path and self.guidance_of_updates != self.guidance:
            raise UserError(
                f"sampler.update_guidance {self.update_guidance:g}: {name} asks how likely what guidance "
                f"{self.guidance:g} drew has become, and another policy did not draw it: leave it out, or take an "
                "algorithm that noises finished samples again, DiffusionNFT, AWM or DPO"
            )

    @property
    def guidance_of_updates(self) -> float:
        """The scale by which updates are guided."""
        return self.guidance if self.update_guidance is None else self.update_guidance

    def plain(self, steps: int | None = None, guidance: float | None = None) -> Sampler:
        """Return the plain ODE on the model's own grid; None: in as many steps, or with as much guidance, as here."""
        return Sampler(
            EulerODE(),
            self.steps if steps is None else steps,
            guidance=self.guidance if guidance is None else guidance,
        )

    def described(self) -> Mapping[str, str]:
        """Return what a summary says of it, by title."""
        return {"Sampler": str(self.dynamics), "Steps": str(self.steps), "Guidance scale": f"{self.guidance:g}"}

    def call(self) -> Mapping[str, Any]:
        """Return the arguments that ask a diffusers pipeline for as many steps and as much guidance."""
        return {"num_inference_steps": self.steps, "guidance_scale": self.guidance}

    def at(self, iteration: int) -> Sampler:
        """Return the sampler of `iteration`: its window where it then is."""
        if self.window == 0 or self.window_schedule == "random":
            return self
        start = sliding_start(
            iteration, *self.window_range, self.window_stride, self.window_every, self.window_schedule
        )
        return replace(self, window_range=(start, start), window_schedule="random")

    def plan(self, group: Int[Tensor, " batch"], id: Int[Tensor, " batch"], rng: Rng) -> Plan:
        """Return the plan of a batch; windows are equal within a group, and drawn from (rng, group) alone."""
        if not self.dynamics.stochastic:
            decides = torch.zeros(len(group), self.steps, dtype=torch.bool)
        elif self.window == 0:
            decides = (torch.arange(self.steps) < self.steps - 1).expand(len(group), -1)
        else:
            low, high = self.window_range
            start = low + (rng.child("window").uniform(group, ()) * (high - low + 1)).long()
            decides = window(start, self.window, self.steps)
        return Plan(group, id, decides, self.shared_start, self.splits)


@dataclass(frozen=True, eq=False)
class Step:
    """A step of all samples of a batch, from x at time t to `choice` at time s, as who watches it sees it.

    `estimate` is what the network takes x to be made of, and `next` the distribution that `choice` was drawn from.
    """

    index: int
    t: Float[Tensor, ""]
    s: Float[Tensor, ""]
    x: Float[Tensor, "batch *latent"]
    estimate: Estimate
    next: Gaussian
    choice: Float[Tensor, "batch *latent"]


Watch = Callable[[Step], Tensor | None]
"""Sees a step before it is taken; None lets it be, a tensor [batch, *latent] is where it leads instead of `choice`."""


def _led(watch: Watch, step: Step, plan: Plan) -> Float[Tensor, "batch *latent"]:
    """Return where a step leads. Raises ValueError if samples that are one state are led to different places."""
    led = watch(step)
    if led is None:
        return step.choice
    first, place = plan.states(step.index + 1)
    if not torch.equal(led[first][place], led):
        raise ValueError(f"after step {step.index} some samples are still one state, and must be led to one place")
    return led


@dataclass(frozen=True)
class Denoising:
    """A denoiser and how it is sampled."""

    model: Denoiser
    sampler: Sampler

    def at(self, iteration: int) -> Denoising:
        """Return the policy as it samples in `iteration`, over the model at the size of that."""
        sizes = self.sampler.sizes
        model = sized(self.model, sizes[iteration % len(sizes)]) if sizes else self.model
        return replace(self, model=model, sampler=self.sampler.at(iteration))

    def times(self) -> Float[Tensor, " points"]:
        """Return the times between which it steps, noisiest first."""
        return self.model.times(self.sampler.steps, self.sampler.grid)

    def sample(
        self,
        condition: Condition,
        prompt_index: Int[Tensor, " batch"],
        group: Int[Tensor, " batch"],
        id: Int[Tensor, " batch"],
        *,
        rng: Rng,
        record: bool,
        watch: Watch | None = None,
    ) -> Sampled:
        """Draw a sample for each id, and record its decisions, if asked, exactly as they were made.

        `watch` sees each step and may lead it elsewhere; then that is what is recorded as chosen.
        """
        times, spec = self.times(), self.model.latent()
        moved, prompt_index = times.to(spec.device, spec.dtype), prompt_index.to(spec.device)
        plan = self.sampler.plan(group, id, rng)
        noise = plan.noise(rng, spec.shape)
        x = sent(next(noise), moved.device).to(moved)
        like = x if self.sampler.keep == "device" else torch.empty_like(x, device="cpu")
        path = plan.path(like, times) if record else None
        before, behind = None, Behind(moved.device)
        for i, (t, s) in enumerate(zip(moved[:-1], moved[1:], strict=True)):
            first, place = plan.states(i)  # samples that are still one state are evaluated once
            span, decides = (t.expand(len(first)), s.expand(len(first))), plan.decides[first, i]
            found = self.step(x[first], span, condition, prompt_index[first], decides, select(before, first))
            estimate, drawn_from = select(found, place)
            choice = drawn_from.sample(sent(next(noise), x.device).to(x))
            if watch is not None:
                choice = _led(watch, Step(i, t, s, x, estimate, drawn_from, choice), plan)
            if path is not None:
                behind.write(plan.record(path, i, x, choice, drawn_from))
            x, before = choice, (t.expand(len(id)), estimate)
        behind.settle()
        return Sampled(x, path)

    def step(
        self,
        x: Float[Tensor, "batch *latent"],
        span: tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]],
        condition: Condition,
        prompt_index: Int[Tensor, " batch"],
        decides: Bool[Tensor, " batch"],
        before: tuple[Float[Tensor, " batch"], Estimate] | None = None,
    ) -> tuple[Estimate, Gaussian]:
        """Return what x = x_t is taken to be made of, and the distribution of x_s; `span` is (t, s).

        One network evaluation a sample. Where a sample does not `decide` it follows the ODE, std = 0. `before` is the
        time u > t and the estimate of the step before, for a dynamics that sees it (`Multistep`).
        """
        estimate = self.estimate(x, span[0], condition, prompt_index)
        refined, dynamics = estimate, self._dynamics(decides, x.device)
        if before is not None and isinstance(dynamics, Multistep):
            refined = dynamics.refine(x, estimate, before[1], (before[0], *span), self.model.schedule)
        return estimate, dynamics.step(x, refined, *span, self.model.schedule)

    def estimate(
        self,
        x: Float[Tensor, "batch *latent"],
        t: Float[Tensor, " batch"],
        condition: Condition,
        prompt_index: Int[Tensor, " batch"],
        guidance: float | None = None,
    ) -> Estimate:
        """Return what the network, guided, takes x_t to be made of: one network evaluation a sample, or two.

        `guidance` None is the sampler's.
        """
        scale = self.sampler.guidance if guidance is None else guidance
        rescaled = self.model.rescaled if isinstance(self.model, Rescaling) else None
        prediction = guided(self.model.predict, scale, (x, t), condition, prompt_index, rescaled)
        return to_estimate(self.model.prediction, prediction, x, t, self.model.schedule)

    def distribution(self, decisions: Decisions, condition: Condition) -> Gaussian:
        """Return N(mean, std^2 I) of each decision under the present weights."""
        state, everyone = decisions.state, torch.ones(decisions.evaluations, dtype=torch.bool)
        found = self.step(state.x, (state.t, state.s), condition, decisions.prompt_index, everyone)[1]
        return select(found, decisions.place)

    def pack(self, rollout: Rollout, rows: Int[Tensor, " rows"], size: int) -> Iterator[Decisions]:
        """Yield the decisions of samples `rows` in full passes, step by step, as the sampler met them."""
        path, device = rollout.path, self.model.latent().device
        columns, places = path.mask[rows].T.nonzero(as_tuple=True)
        for column, place in zip(columns.split(size), places.split(size), strict=True):
            row = rows[place]
            kept = at((cast(Walk, path.states).each, path.choices, path.length, path.old), row, column)
            state, choice, length, old = tree_map(lambda each: sent(each, device), kept)
            index, each = sent(rollout.prompt_index[row], device), torch.arange(len(row))
            yield Decisions(state, index, each, choice, length, old, row, column)

    def renoise(
        self, rollout: Rollout, rows: Int[Tensor, " rows"], how: Renoising, rng: Rng, size: int
    ) -> Iterator[Renoised]:
        """Yield the finished samples `rows`, each noised again, `size` at a time.

        Times and noise of a sample depend on (rng, its id) alone, or, `how.by_group`, on (rng, its group). From the
        sampler's own "grid" times are drawn without replacement, and without its end, where nothing is left to restore.
        """
        ids = (rollout.group if how.by_group else rollout.id)[rows]
        t = self._training_times(ids, how, rng.child("times"))
        noise = rng.child("noise").normal(ids, (how.num_times, *rollout.sample.shape[1:]))
        place = torch.arange(len(rows)).repeat_interleave(how.num_times)
        column = torch.arange(how.num_times).repeat(len(rows))
        for p, c in zip(place.split(size), column.split(size), strict=True):
            row = rows[p]
            x0 = select(rollout.sample, row)
            n, time = (sent(each[p, c], x0.device).to(x0) for each in (noise, t))
            state = add_noise(self.model.schedule, x0, n, time)
            region = None if rollout.region is None else sent(rollout.region[row], x0.device).to(x0)
            yield Renoised(state, x0, n, time, sent(rollout.prompt_index[row], x0.device), row, c, region)

    def elements(self) -> int:
        """Return the number of elements D of one latent."""
        return self.model.latent().size

    def restore(self, pack: Renoised, condition: Condition) -> Estimate:
        """Return what the network takes renoised samples to be made of."""
        return self.estimate(pack.state, pack.t, condition, pack.prompt_index, self.sampler.guidance_of_updates)

    def _dynamics(self, decides: Bool[Tensor, " batch"], device: torch.device) -> Dynamics:
        dynamics: Dynamics = self.sampler.dynamics
        if bool(decides.all()):
            return dynamics
        return Windowed(dynamics, decides.to(device)) if bool(decides.any()) else dynamics.deterministic()

    def _training_times(self, ids: Int[Tensor, " rows"], how: Renoising, rng: Rng) -> Float[Tensor, "rows times"]:
        if how.times != "grid":
            mean = math.log(3) if how.times == "shifted_logit_normal" else 0.0  # time_shift adds it to the logit
            u = rng.uniform(ids, (how.num_times,))
            below = logit_normal_cdf(how.min_time, mean)
            return logit_normal((below + (1 - below) * u).clamp(1e-4, 1 - 1e-4), mean)
        points = self.times()[:-1]
        points = points[points >= max(how.min_time, 0.01)]
        if how.num_times > len(points):
            raise UserError(
                f"num_times {how.num_times} exceeds the sampler's {len(points)} times from min_time {how.min_time} on; "
                "lower one"
            )
        order = rng.uniform(ids, (len(points),)).argsort(1)
        return points[order[:, : how.num_times]]
