"""An algorithm of one's own: REINFORCE with the mean of the others of the group as baseline (RLOO, arXiv:2402.14740).

    limner train scenes --algorithm examples/my_algorithm.py:LeaveOneOut --sampler.dynamics FlowSDE --steps 10

`needs` says what it is: here, that it learns from the recorded steps of the sampler. `advantage` and `pass_loss` are
what it does; the loop over passes, steps of the optimizer, trees, tokens and processes is limner's.
"""

from dataclasses import dataclass

import torch

from limner import Needs


@dataclass(frozen=True)
class LeaveOneOut:
    num_updates: int = 1
    needs = Needs(path=True)

    def advantage(self, scored, context):
        """A_i = r_i - mean of r_j over the other valid j of the group; 0 where there is none."""
        reward, valid = torch.where(scored.valid, scored.total, 0.0), scored.valid
        same = (
            (scored.rollout.group[:, None] == scored.rollout.group) & valid & ~torch.eye(len(valid), dtype=torch.bool)
        )
        baseline = (same * reward).sum(1) / same.sum(1).clamp(min=1)
        return torch.where(valid & same.any(1), reward - baseline, 0.0)

    def pass_loss(self, actors, batch, pack):
        """L = -A log p(choice) / D of each decision of a pass; the log-ratio has the gradient of log p."""
        now = actors.policy.distribution(pack, batch.rollout.condition)
        log_p = now.log_ratio(pack.old, pack.choice) / actors.policy.elements()
        return -batch.decision_advantage(pack).to(log_p) * log_p, {"kl": now.kl(pack.old).detach()}
