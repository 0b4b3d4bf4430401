"""TRPO: the largest step along the natural gradient that keeps the policy within a KL of the one that sampled.

    maximise  E[A rho]   subject to   E[KL(old || new)] <= kl_limit,      rho = p(choice) / p_old(choice)

over the recorded denoising steps, in nats. With g the gradient of E[A rho], F the Hessian of the mean KL, both at the
old weights, and G = F + damping I, the step is sqrt(2 kl_limit / x' G x) x, x = G^-1 g by conjugate gradients, halved
until the surrogate has improved and the measured KL obeys its limit. It needs second derivatives: for small networks.

When to use it: the step itself must obey a KL, and the network is small: each takes `solver_steps` second derivatives.
For teaching and for checking others, not for large models. One process only.

Source: TRPO, arXiv:1502.05477, section 6 and appendix C. The baseline is the group's mean, not a critic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from limner.core.needs import Needs
from limner.core.protocols import Actors, Context, DecisionProcess
from limner.core.settings import Count, Natural, NotNegative, Positive, settings
from limner.core.types import Batch, Decisions, PassLoss
from limner.learning.credit import relative_advantage
from limner.learning.passes import teaching
from limner.learning.ratio import rescored
from limner.objectives.advantage import AdvantageScale
from limner.objectives.natural import conjugate_gradient


@settings
class TRPO:
    """TRPO's hyper-parameters, and the algorithm. `kl_limit` is the mean over decisions, in nats of the whole latent.

    It makes its own updates: learning rate, schedule and gradient clipping of the optimizer do not apply.
    """

    kl_limit: Positive = 0.01
    damping: NotNegative = 1e-3
    """What is added to the diagonal of the Fisher matrix."""
    solver_steps: Count = 10
    """Steps of conjugate gradients."""
    halvings: Count = 10
    """How often a step that is too long, or does not improve, is halved."""
    scale: AdvantageScale = "group"
    ddof: Natural = 0
    epsilon: NotNegative = 1e-4

    num_updates = 1
    """The whole rollout decides on the step."""

    needs = Needs(path=True, own_update=True, alone=True)

    advantage = relative_advantage

    def pass_loss(self, actors: Actors[DecisionProcess], batch: Batch, pack: Decisions) -> PassLoss:
        """Return -A rho of each decision, and how far it is from the old one."""
        again = rescored(actors, batch, pack)
        loss = again.loss(lambda ratio, advantage: -advantage * (ratio * again.elements).exp())
        return loss, {"surrogate": -loss.detach(), "step_kl": pack.old.kl(again.distribution)}

    def update(
        self, actors: Actors[DecisionProcess], parameters: Sequence[nn.Parameter], batch: Batch, context: Context
    ) -> dict[str, float]:
        """Take the step, or none if no length of it obeys and improves; return its health."""
        packs = list(actors.policy.pack(batch.rollout, teaching(batch), context.micro_batch))
        count = sum(len(pack) for pack in packs)
        if not count:
            return {}

        def means() -> Iterator[tuple[Tensor, Tensor]]:
            """Yield each pack's share of the mean surrogate and KL."""
            for pack in packs:
                loss, health = self.pass_loss(actors, batch, pack)
                yield -loss.sum() / count, health["step_kl"].sum() / count

        def measure() -> tuple[float, float]:
            with torch.no_grad():
                surrogates, divergences = zip(*means(), strict=True)
                return float(sum(surrogates)), float(sum(divergences))

        with sdpa_kernel(SDPBackend.MATH):  # the fused ones have no second derivative
            gradient = _sum(_gradient(surrogate, parameters) for surrogate, _ in means())

            def fisher(x: Tensor) -> Tensor:
                products = (_gradient(_gradient(kl, parameters, True) @ x, parameters) for _, kl in means())
                return _sum(products) + self.damping * x

            direction = conjugate_gradient(fisher, gradient, self.solver_steps)
            curvature = float(direction @ fisher(direction))
        before, _ = measure()
        start = parameters_to_vector(parameters).detach().clone()
        whole = (2 * self.kl_limit / max(curvature, 1e-20)) ** 0.5 * direction
        shared = {"grad_norm": float(gradient.norm()), "surrogate": before}
        for halving in range(self.halvings):
            _put(start + 0.5**halving * whole, parameters)
            after, kl = measure()
            if after > before and kl <= self.kl_limit:
                return shared | {"improvement": after - before, "step_kl": kl, "step_share": 0.5**halving}
        _put(start, parameters)
        return shared | {"improvement": 0.0, "step_kl": 0.0, "step_share": 0.0}


def _gradient(value: Tensor, parameters: Sequence[nn.Parameter], twice: bool = False) -> Tensor:
    """Return the gradient as one vector, 0 where `value` does not depend on a parameter; `twice`: differentiable."""
    found = torch.autograd.grad(value, parameters, create_graph=twice, allow_unused=True, materialize_grads=True)
    return torch.cat([part.reshape(-1) for part in found])


def _put(vector: Tensor, parameters: Sequence[nn.Parameter]) -> None:
    with torch.no_grad():
        vector_to_parameters(vector, parameters)


def _sum(vectors: Iterator[Tensor]) -> Tensor:
    return torch.stack(list(vectors)).sum(0)
