"""Samples of one policy as samples of another: importance weights, truncated so that none decides alone."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def truncated_weight(log_ratio: Float[Tensor, " batch"], most: float) -> Float[Tensor, " batch"]:
    """Return w = min(most, p(x) / q(x)) of samples x of q; `log_ratio` is log p(x) - log q(x), in nats.

    E_q[w f] = E_p[f] - E_p[(1 - most q / p)^+ f]: exact for `most` = inf, and otherwise wrong by at most max |f| times
    the p-probability that truncation takes away. E_q[w^2] <= most, where without truncation it may not be finite.
    Source: Ionides, Truncated Importance Sampling, J. Comput. Graph. Stat. 17(2), 2008, eq. 2.
    """
    return log_ratio.exp().clamp(max=most)


def effective_share(weight: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
    """Return (sum w)^2 / (n sum w^2), in (0, 1]: as which share of n equal ones weighted samples count; 0 for none.

    Source: Kong, A note on importance sampling using standardized weights, University of Chicago, 1992.
    """
    total, squares = weight.sum(), len(weight) * weight.square().sum()
    return total * total / squares if squares > 0 else squares
