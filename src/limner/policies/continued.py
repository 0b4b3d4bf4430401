"""Denoising of clips that go on from given ones: the times that are known are held at their own noise level."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxtyping import Float, Int
from torch import Tensor

from limner.core.rng import Rng
from limner.core.types import Condition, Sampled
from limner.diffusion.schedule import add_noise
from limner.policies.denoising import Denoising, Step


@dataclass(frozen=True)
class Continued:
    """Draws clips whose latents begin with `known`, as part number `part` of something longer.

    After each step to time s the first times of the latent are alpha_s known + sigma_s e, with the noise e that the
    sample began with, whatever the network made of them; it sees them while it makes the others. At s = 0 they are
    `known` itself. Each part has noise of its own.
    Source: the replacement method, Ho et al., arXiv:2204.03458, section 3.1, without its gradient; Song et al.,
    arXiv:2011.13456, appendix I.2. It conditions on a sample of the known part at each level, which is not the exact
    conditional of the joint density.
    """

    policy: Denoising
    known: Float[Tensor, "batch channels known height width"]
    part: int = 1

    def at(self, iteration: int) -> Continued:
        """Return it as it samples in `iteration`."""
        return replace(self, policy=self.policy.at(iteration))

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
        """Draw a sample for each of `known`. Nothing is recorded: what was held is no decision of the policy."""
        policy, times = self.policy, self.known.shape[2]
        begun: list[Tensor] = []

        def hold(step: Step) -> Tensor:
            if not begun:
                begun.append(step.x[:, :, :times])
            known, s = self.known.to(step.choice), step.s.expand(len(id))
            held = step.choice.clone()
            held[:, :, :times] = add_noise(policy.model.schedule, known, begun[0], s)
            return held

        apart = rng.child("part", self.part)
        drawn = policy.sample(condition, prompt_index, group, id, rng=apart, record=False, watch=hold)
        return Sampled(drawn.sample, None)
