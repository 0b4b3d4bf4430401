"""Which tokens of a picture its advantage counts at: those that are critical, or those that tell good from bad.

A focus of samples that are written token by token. It weighs each token's part of the policy gradient; a penalty for
moving from the base still weighs all tokens alike. Two tokens are alike by the cosine of their codes' vectors, or, if
the model does not know these (`policies.tokens.Coded`), if they are equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from limner.core.errors import UserError
from limner.core.media import Media
from limner.core.protocols import Judge
from limner.core.settings import Range, settings
from limner.core.types import Advantage, Prompt, Rollout, Scored
from limner.objectives.categorical import Categorical
from limner.objectives.critical import alike_to, critical, edges, unlike
from limner.policies.tokens import Written


@settings
class Critical:
    """GCPO: an advantage counts at critical tokens, there with weight T / (number of them), and nowhere else.

    A `share` each are the first tokens, on which all others depend; those where the entropy of what was drawn from
    changes most over the picture; and those that the samples of a group write most differently.
    Source: GCPO, arXiv:2509.22485, and its published code. Deviations: no "dynamic" weight by the confidence relative
    to the reference, through which the code also has a gradient; entropy is that of the policy with its temperature;
    likeness is one of codes' vectors, there of what the decoder is given for them.
    """

    share: Annotated[float, Range(above=0, most=1 / 3)] = 0.1
    """Of the tokens, for each of the three kinds."""

    judge = ""

    def look(self, media: Media, prompts: Sequence[Prompt], shape: tuple[int, ...], judge: Judge | None) -> None:
        """Return None: which tokens are critical is seen in how they were drawn."""

    def spread(self, advantage: Advantage, scored: Scored) -> Advantage:
        """Return A T / (number of critical tokens) at these, and 0 elsewhere."""
        written, entropy = _written(scored.rollout)
        tokens = entropy.shape[1]
        side = math.isqrt(tokens)
        if side * side != tokens or side < 2 or int(self.share * tokens) == 0:
            raise UserError(
                f"focus Critical takes a share {self.share:g} of the tokens of a square picture, and samples have "
                f"{tokens}: raise focus.share, or take focus Unlike or Everywhere"
            )
        alike = torch.empty_like(entropy)
        for rows in _groups(scored.rollout.group):
            others = ~torch.eye(len(rows), dtype=torch.bool, device=entropy.device)[..., None]
            likeness = _likeness(written, rows)
            alike[rows] = alike_to(likeness, others.expand_as(likeness)).mean(0)
        found = critical(edges(entropy.unflatten(1, (side, side))).flatten(1), alike, self.share)
        return _by_step(advantage) * (found / found.float().mean(1, keepdim=True)).to(advantage)


@settings
class Unlike:
    """STAGE: an advantage counts the more the less a token is like those of samples that were judged the other way.

        A_i(p) = A_i w_i(p) / mean w,    w_i(p) = (1 - mean of cos(e_i(p), e_j(p)) over j with A_i A_j <= 0) / 2

    over the samples j of the group, e the vectors of codes; the mean of w is the group's.
    Source: STAGE, arXiv:2509.25027, and its published code. Deviations: the KL's weight is not changed, and the entropy
    reward, its other half, is not there; samples that are invalid take no part.
    """

    judge = ""

    def look(self, media: Media, prompts: Sequence[Prompt], shape: tuple[int, ...], judge: Judge | None) -> None:
        """Return None: what is alike is seen in what was written."""

    def spread(self, advantage: Advantage, scored: Scored) -> Advantage:
        """Return A w / mean w."""
        written, entropy = _written(scored.rollout)
        spread = _by_step(advantage).expand(entropy.shape).clone()
        for rows in _groups(scored.rollout.group):
            valid = rows[scored.valid[rows]]
            if len(valid):
                spread[valid] *= unlike(_likeness(written, valid), spread[valid]).to(spread)
        return spread


def _written(rollout: Rollout) -> tuple[Written, Float[Tensor, "batch tokens"]]:
    """Return the tokens, and the entropy of what each was drawn from. Raises UserError for other samples."""
    states, old = rollout.path.states, rollout.path.old
    if not isinstance(states, Written) or not isinstance(old, Categorical):
        raise UserError(
            "focus Critical and Unlike weigh the tokens of samples that are written in order, by sampler TokenSampler: "
            "take focus Patches, Local or Everywhere"
        )
    return states, old.entropy()


def _groups(group: Int[Tensor, " batch"]) -> list[Int[Tensor, " rows"]]:
    return [(group == each).nonzero()[:, 0] for each in group.unique()]


def _likeness(written: Written, rows: Int[Tensor, " group"]) -> Float[Tensor, "group group tokens"]:
    """Return how alike the tokens of each two samples are."""
    if written.vectors is None:
        tokens = written.tokens[rows.to(written.tokens.device)]
        return (tokens[:, None] == tokens).float()
    unit = functional.normalize(written.vectors[rows.to(written.vectors.device)].float(), dim=-1)
    return torch.einsum("ntw,mtw->nmt", unit, unit)


def _by_step(advantage: Advantage) -> Tensor:
    return advantage[:, None] if advantage.ndim == 1 else advantage
