"""Denoising as a policy: x_t is the state, the next latent the choice, one network evaluation a decision.

The sampler and the loss meet in `distribution`: what was recorded while sampling is scored by the same few lines.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from limner.core.errors import UserError
from limner.core.protocols import Denoiser
from limner.core.rng import Rng
from limner.core.types import Condition, Decisions, Renoised, Rollout, Sampled, Trajectory
from limner.diffusion.dynamics import Dynamics, Multistep, Windowed
from limner.diffusion.gaussian import Gaussian
from limner.diffusion.prediction import Estimate, to_estimate
from limner.diffusion.schedule import add_noise
from limner.diffusion.shape import over_latent
from limner.diffusion.timesteps import (
    Grid,
    TrainingTimes,
    WindowSchedule,
    logit_normal,
    logit_normal_cdf,
    sliding_start,
    window,
)


@dataclass(frozen=True)
class Denoising:
    """A denoiser sampled by `dynamics` in `steps` steps on its own grid.

    With `window` = 0 every step but the last is a decision (the last one, to t = 0, follows the ODE: noise added there
    would stay in the picture). With `window` > 0 only that many steps in a row are, from a start in `window_range`
    (inclusive): drawn for each group, or, with another `window_schedule` than "random", sliding over it as iterations
    go by (`at`, `diffusion.timesteps.sliding_start`). The others follow the ODE.

    With `shared_start` a group begins with one noise (DanceGRPO, MixGRPO). Up to its window its samples are then one,
    computed once, and what tells them apart is what happened in the window: credit without luck of the start (the
    branches of TempFlow-GRPO, arXiv:2508.04324, for a window of one step).

    `splits` are steps at which every branch of a group divides in two: a group is a tree with 2^splits leaves, one
    noise at its root, and a branch's noise as its own until it divides. What leaves share is computed, recorded and
    counted once, under the first of them.
    Source: DDPO, arXiv:2305.13301, section 4.2 (denoising as a decision process); MixGRPO, arXiv:2507.21802 (windows);
    BranchGRPO, arXiv:2509.06040 (trees; its code scales the noise of a split and scores it unscaled, this does not).
    """

    model: Denoiser
    dynamics: Dynamics
    steps: int
    window: int = 0
    window_range: tuple[int, int] = (0, 0)
    window_schedule: WindowSchedule = "random"
    window_stride: int = 1
    window_every: int = 25
    shared_start: bool = False
    grid: Grid = "own"
    splits: tuple[int, ...] = ()

    def at(self, iteration: int) -> Denoising:
        """Return the policy as it samples in `iteration`: with its window where it then is."""
        if self.window == 0 or self.window_schedule == "random":
            return self
        start = sliding_start(
            iteration, *self.window_range, self.window_stride, self.window_every, self.window_schedule
        )
        return replace(self, window_range=(start, start), window_schedule="random")

    def sample(
        self,
        condition: Condition,
        prompt_index: Int[Tensor, " batch"],
        group: Int[Tensor, " batch"],
        id: Int[Tensor, " batch"],
        *,
        rng: Rng,
        record: bool,
    ) -> Sampled:
        """Draw a sample for each id, and record its decisions, if asked, exactly as they were made."""
        times, spec = self.model.times(self.steps, self.grid), self.model.latent()
        mask = self._decisions(group, rng)
        place = mask.cumsum(1) - 1
        stream, count = rng.child("noise"), 1 + int(mask[:1].sum())
        moved, prompt_index = times.to(spec.device, spec.dtype), prompt_index.to(spec.device)

        def draw(step: int) -> Tensor:
            """Return all noise of the branches that samples are on after `step`."""
            return stream.normal(self._branch(id, torch.tensor(step)), (count, *spec.shape)).to(moved)

        noise = draw(-1)
        x = rng.child("start").normal(group, spec.shape).to(moved) if self.shared_start else noise[:, 0]
        rows = torch.arange(len(id))
        records: list[tuple[Tensor, Tensor, Tensor, Tensor, Gaussian]] = []
        before: Estimate | None = None
        for i in range(self.steps):
            t, s = moved[i].expand(len(id)), moved[i + 1].expand(len(id))
            dynamics = self._at(mask[:, i], spec.device)
            estimate = self._estimate_once(x, t, condition, prompt_index, self._state(id, group, mask, i))
            seen, before = before, estimate
            if seen is not None and isinstance(dynamics, Multistep):
                span = (moved[i - 1].expand(len(id)), t, s)
                estimate = dynamics.refine(x, estimate, seen, span, self.model.schedule)
            gaussian = dynamics.step(x, estimate, t, s, self.model.schedule)
            here = rows[mask[:, i]]
            choice = gaussian.mean
            if len(here):
                noise = draw(i) if i in self.splits else noise
                choice = gaussian.sample(noise[rows, (place[:, i] + 1).clamp(min=0)])
                if len(here) < len(id):
                    choice = torch.where(over_latent(mask[:, i].to(x.device), x), choice, gaussian.mean)
                if record:
                    records.append((here, place[here, i], x, choice, gaussian))
            x = choice
        return Sampled(x, times, self._trajectory(records, mask, times, id) if record else None)

    def estimate(
        self,
        x: Float[Tensor, "batch *latent"],
        t: Float[Tensor, " batch"],
        condition: Condition,
        prompt_index: Int[Tensor, " batch"],
    ) -> Estimate:
        """Return what the network takes x_t to be made of: one network evaluation a sample."""
        prediction = self.model.predict(x, t, condition, prompt_index)
        return to_estimate(self.model.prediction, prediction, x, t, self.model.schedule)

    def _branch(self, id: Int[Tensor, "batch *steps"], step: Int[Tensor, "*steps"]) -> Int[Tensor, "batch *steps"]:
        """Return the first sample of the branch that each one is on after `step`: itself, if nothing divides later.

        A tree's leaves are samples k 2^splits to (k + 1) 2^splits - 1, as `rollout.collect` numbers them.
        """
        later = (torch.tensor(self.splits).view(-1, *(1,) * step.ndim) > step).sum(0)
        return id - id % 2**later

    def _state(
        self, id: Int[Tensor, " batch"], group: Int[Tensor, " batch"], mask: Bool[Tensor, "batch steps"], step: int
    ) -> Int[Tensor, "batch 2"] | None:
        """Return a name for what each sample is before `step`, equal where samples are the same; None if all differ.

        `mask` marks the steps that are decisions: from the first one on, samples with a shared start differ.
        """
        if self.splits:
            return torch.stack([group, self._branch(id, torch.tensor(step - 1))], 1)
        if not self.shared_start:
            return None
        one = ~mask[:, :step].any(1)
        return torch.stack([group, torch.where(one, -1, id)], 1) if bool(one.any()) else None

    def _estimate_once(
        self,
        x: Float[Tensor, "batch *latent"],
        t: Float[Tensor, " batch"],
        condition: Condition,
        prompt_index: Int[Tensor, " batch"],
        state: Int[Tensor, "batch 2"] | None,
    ) -> Estimate:
        """Return the estimates of all samples, evaluating each different `state` once, where its first sample is."""
        if state is None:
            return self.estimate(x, t, condition, prompt_index)
        different, back = state.unique(dim=0, return_inverse=True)
        first = torch.full((len(different),), len(state)).scatter_reduce(0, back, torch.arange(len(state)), "amin")
        once = self.estimate(x[first], t[first], condition, prompt_index[first])
        return Estimate(once.x0[back], once.noise[back])

    def distribution(self, decisions: Decisions, condition: Condition) -> Gaussian:
        """Return N(mean, std^2 I) of each decision under the present weights."""
        x, (t, s) = decisions.state, decisions.times.unbind(1)
        estimate = self.estimate(x, t, condition, decisions.prompt_index)
        return self.dynamics.step(x, estimate, t, s, self.model.schedule)

    def pack(self, rollout: Rollout, rows: Int[Tensor, " rows"], size: int) -> Iterator[Decisions]:
        """Yield the decisions of samples `rows` in full passes, step by step, as the sampler met them."""
        trajectory = rollout.path
        column, place = trajectory.mask[rows].T.nonzero(as_tuple=True)
        for start in range(0, len(column), size):
            row, col = rows[place[start : start + size]], column[start : start + size]
            yield Decisions(
                state=trajectory.states[row, col],
                choice=trajectory.choices[row, col],
                times=trajectory.times[row, col].to(trajectory.states),
                old=Gaussian(trajectory.old.mean[row, col], trajectory.old.std[row, col]),
                prompt_index=rollout.prompt_index[row].to(trajectory.states.device),
                row=row,
                column=col,
            )

    def renoise(
        self,
        rollout: Rollout,
        rows: Int[Tensor, " rows"],
        num_times: int,
        times: TrainingTimes,
        rng: Rng,
        size: int,
        min_time: float = 0.0,
        shared: bool = False,
    ) -> Iterator[Renoised]:
        """Yield the finished samples `rows`, each noised again to `num_times` times, `size` at a time.

        Times and noise of a sample depend on (rng, its id) alone, or, `shared`, on (rng, its group). From the sampler's
        own "grid" they are drawn without replacement, and without its end, where nothing is left to restore; none is
        below `min_time`.
        """
        ids = (rollout.group if shared else rollout.id)[rows]
        t = self._training_times(rollout.times, ids, num_times, times, min_time, rng.child("times"))
        noise = rng.child("noise").normal(ids, (num_times, *rollout.sample.shape[1:]))
        place = torch.arange(len(rows)).repeat_interleave(num_times)
        column = torch.arange(num_times).repeat(len(rows))
        for p, c in zip(place.split(size), column.split(size), strict=True):
            row = rows[p]
            x0, n, time = rollout.sample[row], noise[p, c].to(rollout.sample), t[p, c].to(rollout.sample)
            state = add_noise(self.model.schedule, x0, n, time)
            yield Renoised(state, x0, n, time, rollout.prompt_index[row].to(x0.device), row, c)

    def elements(self) -> int:
        """Return the number of elements D of one latent."""
        return self.model.latent().size

    def _at(self, inside: Bool[Tensor, " batch"], device: torch.device) -> Dynamics:
        if bool(inside.all()):
            return self.dynamics
        return Windowed(self.dynamics, inside.to(device)) if bool(inside.any()) else self.dynamics.deterministic()

    def _decisions(self, group: Int[Tensor, " batch"], rng: Rng) -> Bool[Tensor, "batch steps"]:
        """Return which steps are decisions: equal within a group, and drawn from (rng, group) alone."""
        if not self.dynamics.stochastic:
            return torch.zeros(len(group), self.steps, dtype=torch.bool)
        if self.window == 0:
            return (torch.arange(self.steps) < self.steps - 1).expand(len(group), -1)
        low, high = self.window_range
        draw = rng.child("window").uniform(group, ())
        return window(low + (draw * (high - low + 1)).long(), self.window, self.steps)

    def restore(self, pack: Renoised, condition: Condition) -> Estimate:
        """Return what the network takes renoised samples to be made of."""
        return self.estimate(pack.state, pack.t, condition, pack.prompt_index)

    def _training_times(
        self,
        grid: Float[Tensor, " points"],
        ids: Int[Tensor, " rows"],
        num: int,
        kind: TrainingTimes,
        min_time: float,
        rng: Rng,
    ) -> Float[Tensor, "rows times"]:
        if kind != "grid":
            mean = math.log(3) if kind == "shifted_logit_normal" else 0.0  # time_shift adds it to the logit
            u = rng.uniform(ids, (num,))
            below = logit_normal_cdf(min_time, mean)
            return logit_normal((below + (1 - below) * u).clamp(1e-4, 1 - 1e-4), mean)
        points = grid[:-1][grid[:-1] >= max(min_time, 0.01)]
        if num > len(points):
            raise UserError(
                f"num_times {num} exceeds the sampler's {len(points)} times from min_time {min_time} on; lower one"
            )
        order = rng.uniform(ids, (len(points),)).argsort(1)
        return points[order[:, :num]]

    def _trajectory(
        self,
        records: list[tuple[Tensor, Tensor, Tensor, Tensor, Gaussian]],
        mask: Bool[Tensor, "batch steps"],
        times: Float[Tensor, " points"],
        id: Int[Tensor, " batch"],
    ) -> Trajectory:
        """Lay the recorded decisions side by side; every sample has equally many, shared ones the first's."""
        batch, count = mask.shape[0], int(mask[:1].sum())
        spec = self.model.latent()
        kept = torch.empty(0, dtype=spec.dtype, device=spec.device)
        states, choices, means = (kept.new_empty(batch, count, *spec.shape) for _ in range(3))
        stds = kept.new_empty(batch, count)
        for rows, place, x, choice, gaussian in records:
            states[rows, place], choices[rows, place] = x[rows], choice[rows]
            means[rows, place], stds[rows, place] = gaussian.mean[rows], gaussian.std[rows]
        index = mask.nonzero()[:, 1].view(batch, count)
        spans = torch.stack([times[:-1], times[1:]], 1)[index]
        node = self._branch(id[:, None], index)
        return Trajectory(states, choices, spans, Gaussian(means, stds), node == id[:, None], node)
