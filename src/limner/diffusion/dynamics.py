"""How a sample moves from time t to an earlier time s, given the network's estimate of data and noise.

Every dynamics here is one line, and they differ in two numbers only, std and the weight c that predicted noise keeps:

    x_s = alpha(s) x0 + c noise + std n,        n ~ N(0, I),        h = t - s > 0

    EulerODE    std = 0                                              c = sigma(s)
    DPMSolver   std = 0, from an extrapolated estimate               c = sigma(s)
    FlowSDE     std = S sqrt(h),  S = a sqrt(sigma(t) / alpha(t))    c = sigma(s) - std^2 / (2 sigma(t))
    DanceSDE    std = eta sqrt(h)                                    c = sigma(s) - std^2 / (2 sigma(t))
    CPS         std = sigma(s) sin(a pi / 2)                         c = sigma(s) cos(a pi / 2)
    DDIM        std = eta sqrt(...)                                  c = sqrt(sigma(s)^2 - std^2)

The SDEs follow the ODE and add Langevin noise: score(x_t) = -noise / sigma(t), so S^2 h / 2 score is the term in c.
Their marginals are those of the ODE as h -> 0. CPS and DDIM keep c^2 + std^2 = sigma(s)^2 at any h. On rectified flow,
alpha(s) x0 + sigma(s) noise = x_t + (s - t) (noise - x0): Euler's step.

Networks of few steps are sampled by two of these: CPS(1), N(alpha(s) x0, sigma(s)^2 I), is how consistency models, LCM,
DMD2 and SANA-Sprint go on (LCMScheduler, FlowMatchLCMScheduler and SCMScheduler of diffusers), DDIM(1) how SDXL-Turbo
does, by ancestral steps.

x_t = alpha(t) x0 + sigma(t) noise itself is read by none of these; it is part of the seam for those to come.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from limner.diffusion.gaussian import Gaussian
from limner.diffusion.prediction import Estimate
from limner.diffusion.schedule import Schedule
from limner.diffusion.shape import over_latent


@runtime_checkable
class Dynamics(Protocol):
    """What a dynamics is: the distribution of the next state, and the noise-free dynamics beside it."""

    @property
    def stochastic(self) -> bool:
        """Whether a step draws noise, that is, whether it is a decision that can be learned from."""
        ...

    def step(
        self,
        x: Float[Tensor, "batch *latent"],
        estimate: Estimate,
        t: Float[Tensor, " batch"],
        s: Float[Tensor, " batch"],
        schedule: Schedule,
    ) -> Gaussian:
        """Return the distribution of x_s given x = x_t and its estimate, 0 <= s < t <= 1; std = 0 for an ODE."""
        ...

    def deterministic(self) -> Dynamics:
        """Return the noise-free counterpart."""
        ...


@dataclass(frozen=True)
class EulerODE:
    """Follow the probability flow: x_s = alpha(s) x0 + sigma(s) noise; Euler's step on rectified flow, DDIM(0) on DDPM.

    Source: SD3, arXiv:2403.03206, eq. 1; DDIM, arXiv:2010.02502, eq. 12 with sigma_t = 0.
    """

    @property
    def stochastic(self) -> bool:
        """Never."""
        return False

    def step(
        self,
        x: Float[Tensor, "batch *latent"],
        estimate: Estimate,
        t: Float[Tensor, " batch"],
        s: Float[Tensor, " batch"],
        schedule: Schedule,
    ) -> Gaussian:
        """Return N(alpha(s) x0 + sigma(s) noise, 0)."""
        return _transition(estimate, schedule.sigma(s), torch.zeros_like(s), s, schedule)

    def deterministic(self) -> Dynamics:
        """Return itself."""
        return self


@runtime_checkable
class Multistep(Protocol):
    """A dynamics whose step sees the estimate of the step before, too."""

    def refine(
        self,
        x: Float[Tensor, "batch *latent"],
        estimate: Estimate,
        before: Estimate,
        times: tuple[Float[Tensor, " batch"], Float[Tensor, " batch"], Float[Tensor, " batch"]],
        schedule: Schedule,
    ) -> Estimate:
        """Return the estimate to step with, from those at t (`estimate`) and at u > t (`before`); times are u, t, s."""
        ...


@dataclass(frozen=True)
class DPMSolver:
    """Follow the probability flow by DPM-Solver++(2M): Euler's step with the data estimate extrapolated to mid-step.

        lambda = log(alpha / sigma),   h = lambda_s - lambda_t,   h' = lambda_t - lambda_u
        x0 <- x0 + h / (2 h') (x0 - x0_before)

    The first step, and any whose h or h' is infinite, are Euler's: the last one to s = 0, and the second one from pure
    noise. Source: DPM-Solver++, arXiv:2211.01095, algorithm 2, in its midpoint form, as DiffusionNFT, arXiv:2509.16117,
    samples with.
    """

    @property
    def stochastic(self) -> bool:
        """Never."""
        return False

    def step(
        self,
        x: Float[Tensor, "batch *latent"],
        estimate: Estimate,
        t: Float[Tensor, " batch"],
        s: Float[Tensor, " batch"],
        schedule: Schedule,
    ) -> Gaussian:
        """Return Euler's step with the estimate that `refine` made."""
        return EulerODE().step(x, estimate, t, s, schedule)

    def deterministic(self) -> Dynamics:
        """Return itself."""
        return self

    def refine(
        self,
        x: Float[Tensor, "batch *latent"],
        estimate: Estimate,
        before: Estimate,
        times: tuple[Float[Tensor, " batch"], Float[Tensor, " batch"], Float[Tensor, " batch"]],
        schedule: Schedule,
    ) -> Estimate:
        """Return the extrapolated data, and the noise that x_t is made of beside it."""
        alpha, sigma = zip(*((schedule.alpha(t), schedule.sigma(t)) for t in times), strict=True)
        u, t, s = ((a / b).log() for a, b in zip(alpha, sigma, strict=True))
        weight = torch.where(sigma[2] > 0, (s - t) / (2 * (t - u)), 0)  # 0 where u is pure noise
        x0 = estimate.x0 + over_latent(weight, x) * (estimate.x0 - before.x0)
        return Estimate(x0, (x - over_latent(alpha[1], x) * x0) / over_latent(sigma[1], x))


@dataclass(frozen=True)
class FlowSDE:
    """Add Flow-GRPO's Langevin noise, S = noise_level sqrt(sigma(t) / alpha(t)) = a sqrt(t / (1 - t)), to the ODE.

    At alpha(t) = 0 (t = 1) S is singular; there, and only there, alpha(s) is the denominator, as in the published code.
    noise_level = sqrt(2) is the memoryless schedule. The formula does not vanish at the last step: at s = 0 the std is
    S sqrt(t), noise that nothing removes again, so a policy takes its last step with `deterministic()`.

    Source: Flow-GRPO, arXiv:2505.05470, section "From ODE to SDE"; published noise_level 0.7 (SD3), 0.9 (FLUX).
    """

    noise_level: float = 0.7

    def __post_init__(self) -> None:
        require_strength("noise_level", self.noise_level)

    @property
    def stochastic(self) -> bool:
        """Whether noise_level > 0."""
        return self.noise_level > 0

    def step(
        self,
        x: Float[Tensor, "batch *latent"],
        estimate: Estimate,
        t: Float[Tensor, " batch"],
        s: Float[Tensor, " batch"],
        schedule: Schedule,
    ) -> Gaussian:
        """Return N(alpha(s) x0 + (sigma(s) - S^2 h / (2 sigma(t))) noise, S^2 h)."""
        alpha = torch.where(schedule.alpha(t) > 0, schedule.alpha(t), schedule.alpha(s))
        return _langevin(estimate, self.noise_level * (schedule.sigma(t) / alpha).sqrt(), t, s, schedule)

    def deterministic(self) -> Dynamics:
        """Return the probability-flow ODE."""
        return EulerODE()


@dataclass(frozen=True)
class DanceSDE:
    """Add Langevin noise of constant strength, S = eta, to the ODE, or of one that grows with noise, eta + slope t.

    The std at the last step is eta sqrt(t), not 0: a policy takes that step with `deterministic()`.

    Source: DanceGRPO, arXiv:2505.07818, its SDE for rectified flow; published eta 0.3 (FLUX), 0.25 (HunyuanVideo).
    Flow-GRPO's code for Wan has S = s_N + (s_1 - s_N) t, with the second and the last time of the grid: eta = s_N = 0,
    and slope = s_1, .99 for 20 steps at shift 5.
    """

    eta: float = 0.3
    slope: float = 0.0
    """By how much the strength grows from t = 0 to 1."""

    def __post_init__(self) -> None:
        require_strength("eta", self.eta)
        require_strength("eta + slope", self.eta + self.slope)

    @property
    def stochastic(self) -> bool:
        """Whether there is noise."""
        return self.eta > 0 or self.slope > 0

    def step(
        self,
        x: Float[Tensor, "batch *latent"],
        estimate: Estimate,
        t: Float[Tensor, " batch"],
        s: Float[Tensor, " batch"],
        schedule: Schedule,
    ) -> Gaussian:
        """Return N(alpha(s) x0 + (sigma(s) - S^2 h / (2 sigma(t))) noise, S^2 h), S = eta + slope t."""
        return _langevin(estimate, self.eta + self.slope * t, t, s, schedule)

    def deterministic(self) -> Dynamics:
        """Return the probability-flow ODE."""
        return EulerODE()


@dataclass(frozen=True)
class CPS:
    """Replace a share of the predicted noise by fresh noise: c = sigma(s) cos(a pi / 2), std = sigma(s) sin(a pi / 2).

    The share does not shrink with h, and so the marginals are not kept: CPS contracts. For data of variance 0.25 with
    exact estimates, 10 equal steps of CPS(0.8) end at 0.124 (1000 at 0.162), those of the ODE at 0.186; the last one is
    deterministic. noise_level = 0 is EulerODE, bit for bit.

    Source: Flow-CPS, arXiv:2509.05952; published noise_level 0.8. Its log-probability drops the factor 1 / (2 std^2)
    (FlowGRPO's `ratio` "distance"); else it is the Gaussian's own.
    """

    noise_level: float = 0.8

    def __post_init__(self) -> None:
        require_strength("noise_level", self.noise_level, 1)

    @property
    def stochastic(self) -> bool:
        """Whether noise_level > 0."""
        return self.noise_level > 0

    def step(
        self,
        x: Float[Tensor, "batch *latent"],
        estimate: Estimate,
        t: Float[Tensor, " batch"],
        s: Float[Tensor, " batch"],
        schedule: Schedule,
    ) -> Gaussian:
        """Return N(alpha(s) x0 + sigma(s) cos(a pi / 2) noise, sigma(s)^2 sin(a pi / 2)^2)."""
        angle, sigma = self.noise_level * math.pi / 2, schedule.sigma(s)
        return _transition(estimate, sigma * math.cos(angle), sigma * math.sin(angle), s, schedule)

    def deterministic(self) -> Dynamics:
        """Return the probability-flow ODE."""
        return EulerODE()


@dataclass(frozen=True)
class DDIM:
    """Sample DDIM's family, from the ODE (eta = 0) to DDPM's ancestral chain (eta = 1), which is memoryless.

    std = eta sigma(s) sqrt(1 - (alpha(t) sigma(s) / (alpha(s) sigma(t)))^2), 0 <= eta <= 1. With eta = 1 that is the
    std of x_s given x_t and x_0, on any schedule; where alpha^2 + sigma^2 = 1 it is DDIM's own formula,
    sigma(s) / sigma(t) sqrt(1 - alpha(t)^2 / alpha(s)^2). A last step to s = 0 is deterministic; SD 1.5's grid ends at
    t = 1/T instead, where the step is not.

    Source: DDIM, arXiv:2010.02502, eq. 12 and 16; as a policy: DDPO, arXiv:2305.13301, section 4.
    """

    eta: float = 1.0

    def __post_init__(self) -> None:
        require_strength("eta", self.eta, 1)

    @property
    def stochastic(self) -> bool:
        """Whether eta > 0."""
        return self.eta > 0

    def step(
        self,
        x: Float[Tensor, "batch *latent"],
        estimate: Estimate,
        t: Float[Tensor, " batch"],
        s: Float[Tensor, " batch"],
        schedule: Schedule,
    ) -> Gaussian:
        """Return N(alpha(s) x0 + sqrt(sigma(s)^2 - std^2) noise, std^2)."""
        sigma = schedule.sigma(s)
        remembered = schedule.alpha(t) * sigma / (schedule.alpha(s) * schedule.sigma(t))
        std = self.eta * sigma * (1 - remembered**2).sqrt()
        kept = (sigma**2 - std**2).clamp(min=0).sqrt()  # 0 at eta = 1 from pure noise, but for rounding
        return _transition(estimate, kept, std, s, schedule)

    def deterministic(self) -> Dynamics:
        """Return DDIM(0)."""
        return DDIM(0.0)


@dataclass(frozen=True, eq=False)
class Windowed:
    """One decision in which some samples follow `inner` and the others its noise-free counterpart.

    `window` is a column of `timesteps.window`, true where the sample's decision is stochastic: policy code draws the
    mask [batch, steps] once, wraps decision i as `Windowed(inner, mask[:, i])`, and keeps the mask for the loss.

    Source: MixGRPO, arXiv:2507.21802; Flow-GRPO-Fast (code of arXiv:2505.05470).
    """

    inner: Dynamics
    window: Bool[Tensor, " batch"]

    @property
    def stochastic(self) -> bool:
        """Whether any sample draws noise."""
        return self.inner.stochastic and bool(self.window.any())

    def step(
        self,
        x: Float[Tensor, "batch *latent"],
        estimate: Estimate,
        t: Float[Tensor, " batch"],
        s: Float[Tensor, " batch"],
        schedule: Schedule,
    ) -> Gaussian:
        """Return inner's Gaussian inside the window, std = 0 outside."""
        inside = self.inner.step(x, estimate, t, s, schedule)
        outside = self.inner.deterministic().step(x, estimate, t, s, schedule)
        mean = torch.where(over_latent(self.window, x), inside.mean, outside.mean)
        return Gaussian(mean, torch.where(self.window, inside.std, outside.std))

    def deterministic(self) -> Dynamics:
        """Return inner's noise-free counterpart."""
        return self.inner.deterministic()


LEAST_STRENGTH = 1e-6
"""A smaller noise is lost beside a float32 state, and has no density."""


def require_strength(name: str, strength: float, most: float = 100) -> None:
    """Raise ValueError for a strength of noise below 0, above `most`, or so small that float32 loses the noise."""
    if not 0 <= strength <= most:
        raise ValueError(f"{name} must be at least 0 and at most {most:g}, got {strength}")
    if 0 < strength < LEAST_STRENGTH:
        raise ValueError(f"{name} must be at least {LEAST_STRENGTH:g}, or 0 for no noise, got {strength}")


def _transition(
    estimate: Estimate,
    kept: Float[Tensor, " batch"],
    std: Float[Tensor, " batch"],
    s: Float[Tensor, " batch"],
    schedule: Schedule,
) -> Gaussian:
    """Return N(alpha(s) x0 + kept noise, std^2)."""
    x0, noise = estimate
    return Gaussian(over_latent(schedule.alpha(s), x0) * x0 + over_latent(kept, noise) * noise, std)


def _langevin(
    estimate: Estimate,
    strength: Float[Tensor, " batch"],
    t: Float[Tensor, " batch"],
    s: Float[Tensor, " batch"],
    schedule: Schedule,
) -> Gaussian:
    """Return the ODE's step plus S^2 h / 2 score + S sqrt(h) n, with score = -noise / sigma(t) and S = `strength`."""
    variance = strength**2 * (t - s)
    return _transition(estimate, schedule.sigma(s) - variance / (2 * schedule.sigma(t)), variance.sqrt(), s, schedule)
