"""What a generator and a discriminator play for.

    D   hinge(real) + hinge(made) + r1/2 E |grad_x D(x)|^2        over data x
    G   - E D(G(z))

Source: hinge, Lim and Ye, arXiv:1705.02894, and Miyato et al., arXiv:1802.05957, eq. 17; gradient penalty on data alone
(R1), Mescheder et al., arXiv:1801.04406, eq. 9.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def hinge(
    real: Float[Tensor, " batch"],
    made: Float[Tensor, " batch"],
    unmatched: Float[Tensor, " others"] | None = None,
    share: float = 0.0,
) -> Float[Tensor, ""]:
    """Return E max(0, 1 - D(real)) + (1 - share) E max(0, 1 + D(made)) + share E max(0, 1 + D(unmatched)).

    `unmatched` are data with captions that are not theirs; where there are none, made samples are all that is false.
    Source of the third: Reed et al., arXiv:1605.05396, algorithm 1, whose share is 1/2.
    """
    false = functional.relu(1 + made).mean()
    if unmatched is not None and len(unmatched):
        false = torch.lerp(false, functional.relu(1 + unmatched).mean(), share)
    return functional.relu(1 - real).mean() + false


def steepness(score: Float[Tensor, " batch"], x: Float[Tensor, "batch *latent"]) -> Float[Tensor, ""]:
    """Return E |grad_x score|^2, with gradients of its own; each score depends on its own row of `x` alone."""
    (gradient,) = torch.autograd.grad(score.sum(), x, create_graph=True)
    return gradient.flatten(1).square().sum(1).mean()


def contrast(
    seen: Float[Tensor, "batch shared"],
    read: Float[Tensor, "batch shared"],
    altered: Float[Tensor, "batch shared"],
    caption: Int[Tensor, " batch"],
    altered_caption: Int[Tensor, " batch"],
    scale: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Return how hard it is to find each picture's caption among others, and each caption's picture.

        -1/2B sum_i (log softmax_j(l_ij)_i + log softmax_j(l_ji)_i)        l_ij = scale cos(seen_i, read_j)

    A picture's caption stands beside those of the batch and one more, its own caption `altered`, which is the hardest
    to tell from it. Equal captions are no wrong answers to one another.
    Source: Zhang et al., arXiv:2101.04702, eq. 5; hard negatives, Yuksekgonul et al., arXiv:2210.01936, section 4.
    """
    seen, read, altered = (functional.normalize(each, dim=1) for each in (seen, read, altered))
    own = torch.arange(len(caption), device=caption.device)
    same = (caption[:, None] == caption) & (own[:, None] != own)
    logits = (scale * seen @ read.T).masked_fill(same, -torch.inf)
    hard = (scale * (seen * altered).sum(1)).masked_fill(caption == altered_caption, -torch.inf)
    captions = functional.cross_entropy(torch.cat([logits, hard[:, None]], 1), own)
    return (captions + functional.cross_entropy(logits.T, own)) / 2
