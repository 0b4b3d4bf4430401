"""What a policy over an oracle draws, exactly: its density, its mean reward, its distance from another one.

An affine denoiser turns Gaussian noise into a Gaussian whatever the dynamics, step by step. Any denoiser under the ODE
is a map from noise to samples, and its density follows by the change of variables. All of it is float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from limner.diffusion.gaussian import Gaussian
from limner.objectives.tilt import Normal, Quadratic
from limner.policies.denoising import Denoising


@dataclass(frozen=True)
class Step:
    """A decision of an affine policy: x_s ~ N(matrix x + shift, std^2 I)."""

    matrix: Float[Tensor, "dim dim"]
    shift: Float[Tensor, " dim"]
    std: Float[Tensor, ""]

    def __call__(self, x: Normal) -> Normal:
        """Return the distribution of x_s when that of x_t is Gaussian."""
        spread = self.std**2 * torch.eye(len(self.shift), dtype=self.shift.dtype)
        return Normal(self.matrix @ x.mean + self.shift, self.matrix @ x.covariance @ self.matrix.T + spread)

    def kl(self, other: Step, x: Normal) -> Float[Tensor, ""]:
        """Return E_x KL(self || other) in nats, for states x and two policies of one std."""
        matrix, shift = self.matrix - other.matrix, self.shift - other.shift
        moved = matrix @ x.mean + shift
        return (moved @ moved + (matrix @ x.covariance @ matrix.T).trace()) / (2 * self.std**2)


def transitions(policy: Denoising, x: Float[Tensor, "batch dim"]) -> list[Gaussian]:
    """Return, for each decision, where it leads from the states x; the last one is deterministic."""
    found = []
    for i, span in enumerate(_spans(policy, len(x))):
        decides = torch.tensor(i < policy.sampler.steps - 1).expand(len(x))
        found.append(policy.step(x, span, *_nothing(len(x)), decides)[1])
    return found


def steps(policy: Denoising) -> list[Step]:
    """Return the decisions of a policy over an affine denoiser; gradients reach its weights."""
    dim = policy.model.latent().size
    found = []
    for gaussian in transitions(policy, torch.cat([torch.zeros(1, dim), torch.eye(dim)]).double()):
        shift = gaussian.mean[0]
        found.append(Step((gaussian.mean[1:] - shift).T, shift, gaussian.std[0]))
    return found


def start(dim: int) -> Normal:
    """Return N(0, I), with which sampling begins."""
    return Normal(torch.zeros(dim).double(), torch.eye(dim).double())


def drawn(chain: list[Step]) -> Normal:
    """Return the distribution of the samples."""
    state = start(len(chain[0].shift))
    for step in chain:
        state = step(state)
    return state


def path_kl(chain: list[Step], other: list[Step]) -> Float[Tensor, ""]:
    """Return the sum over the stochastic decisions of E KL(self || other), states drawn from the first."""
    state, total = start(len(chain[0].shift)), torch.zeros(()).double()
    for mine, theirs in zip(chain, other, strict=True):
        total = total + (mine.kl(theirs, state) if mine.std > 0 else 0)
        state = mine(state)
    return total


def best_objective(chain: list[Step], reward: Quadratic, kl_weight: float) -> Float[Tensor, ""]:
    """Return the largest E[r] - kl_weight sum_i E KL(step i || chain's step i) of all steps of chain's std.

    Moving the mean of step i by u costs kl_weight |u|^2 / (2 std_i^2); a deterministic step and the noise at the start
    cannot be moved. So it is a linear-quadratic control problem, and the value of a state is a quadratic,
    a . x - x' C x / 2 + q, step by step from the end (Riccati): with K = (C + kl_weight / std^2)^-1, a stochastic step

        q += a' K a / 2 - std^2 tr(C) / 2,    a -= C K a,    C -= C K C,    then    x -> matrix x + shift

    For a linear reward it is E_x log E[exp(r / kl_weight) | x] kl_weight over the noise x at the start: less than the
    value of the terminal tilt by what that noise decides, which is nothing under memoryless dynamics.
    """
    a, c = reward
    q = torch.zeros_like(a[0])
    for step in reversed(chain):
        if step.std > 0:
            k = torch.linalg.inv(c + kl_weight / step.std**2 * torch.eye(len(a), dtype=a.dtype))
            q = q + a @ k @ a / 2 - step.std**2 * c.trace() / 2
            a, c = a - c @ k @ a, c - c @ k @ c
        q = q + a @ step.shift - step.shift @ c @ step.shift / 2
        a, c = step.matrix.T @ (a - c @ step.shift), step.matrix.T @ c @ step.matrix
    return q - c.trace() / 2


def push(policy: Denoising, noise: Float[Tensor, "batch dim"]) -> tuple[Tensor, Tensor]:
    """Return the samples that a deterministic policy makes of `noise`, and their log-density, in nats."""
    x = noise.double()
    log_density = _standard_log_density(x)
    for t, s in _spans(policy, len(x)):
        x, jacobian = _move(policy, x, t, s)
        log_density = log_density - torch.linalg.slogdet(jacobian).logabsdet
    return x, log_density


def log_density(policy: Denoising, sample: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
    """Return the log-density of any points under a deterministic policy, by Newton's method, step by step backwards.

    Raises ValueError where a step cannot be inverted to 1e-8.
    """
    x, correction = sample.double(), torch.zeros(len(sample)).double()
    for t, s in reversed(_spans(policy, len(x))):
        x, jacobian = _invert(policy, x, t, s)
        correction = correction - torch.linalg.slogdet(jacobian).logabsdet
    return _standard_log_density(x) + correction


def _invert(policy: Denoising, target: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Return the x that a step moves to `target`, and the step's Jacobian there; damped where Newton overshoots."""
    x = target.clone()
    moved, jacobian = _move(policy, x, t, s)
    error = (moved - target).norm(dim=1)
    for _ in range(60):
        if error.max() < 1e-10:
            break
        change = torch.linalg.solve(jacobian, (target - moved)[:, :, None])[:, :, 0]
        size = torch.ones_like(error)
        for _ in range(30):
            tried = _move(policy, x + size[:, None] * change, t, s)
            worse = (tried[0] - target).norm(dim=1) > error
            if not worse.any():
                break
            size = torch.where(worse, size / 2, size)
        x = x + size[:, None] * change
        moved, jacobian = _move(policy, x, t, s)
        error = (moved - target).norm(dim=1)
    if not error.max() < 1e-8:
        raise ValueError(f"a step from t = {t[0]:.3f} cannot be inverted: {int((error > 1e-8).sum())} points are left")
    return x, jacobian


def _move(policy: Denoising, x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Return where a step of the ODE takes x, and its Jacobian."""

    nothing, decides = _nothing(1), torch.tensor([False])

    def one(point: Tensor) -> tuple[Tensor, Tensor]:
        moved = policy.step(point[None], (t[:1], s[:1]), *nothing, decides)[1].mean[0]
        return moved, moved

    with torch.no_grad():
        jacobian, moved = torch.func.vmap(torch.func.jacrev(one, has_aux=True))(x)
    return moved, jacobian


def _spans(policy: Denoising, batch: int) -> list[tuple[Tensor, Tensor]]:
    times = policy.times().double()
    return [(t.expand(batch), s.expand(batch)) for t, s in zip(times[:-1], times[1:], strict=True)]


def _nothing(batch: int) -> tuple[Any, Tensor]:
    """Return a condition, and the place in it of each sample, for a model that is not asked for anything."""
    return {"nothing": torch.zeros(1)}, torch.zeros(batch, dtype=torch.long)


def _standard_log_density(x: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
    return torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1)
