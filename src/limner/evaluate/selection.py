"""Which pairs a person is shown: the best, the worst, and an unbiased draw."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.rng import Rng
from limner.evaluate.protocol import Evaluation, paired_valid
from limner.report.data import Gallery, Pair


def galleries(before: Evaluation, after: Evaluation, size: int = 12, seed: int = 0) -> tuple[Gallery, ...]:
    """Return the largest gains, the largest losses, and pairs drawn at random, each at most `size` pairs.

    Best and worst show a prompt once. Among equal gains the prompt that gained more over all its seeds comes first, and
    then chance decides; neither section ever holds a pair that did not gain, or lose. The random pairs are drawn from
    all, judged or not.
    """
    valid = paired_valid(before, after)
    gain = torch.where(valid, after.reward - before.reward, 0).double()
    gained, lost, judged = (int(x.sum()) for x in (gain > 0, gain < 0, valid))
    order = torch.randperm(gain.numel(), generator=Rng((seed, "gallery")).generator())
    drawn = [divmod(cell, gain.shape[1]) for cell in order[:size].tolist()]
    best, worst = _ranked(gain, order)[:size], _ranked(-gain, order)[:size]
    unjudged = f", {gain.numel() - judged:,} of which could not be judged" if gain.numel() > judged else ""
    chosen = (
        ("Best", f"The largest gains: {len(best)} of {gained:,} pairs that improved.", best),
        ("Worst", f"The largest losses: {len(worst)} of {lost:,} pairs that got worse.", worst),
        ("Random", f"Drawn by chance, unbiased: {len(drawn)} of all {gain.numel():,} pairs{unjudged}.", drawn),
    )
    return tuple(Gallery(title, note, _pairs(cells, before, after)) for title, note, cells in chosen)


def _ranked(gain: Float[Tensor, "prompts seeds"], order: Tensor) -> list[tuple[int, int]]:
    """Return the cells with gain > 0, largest first, one a prompt."""
    mean = gain.mean(1).tolist()
    cells = [divmod(cell, gain.shape[1]) for cell in order.tolist()]
    table = gain.tolist()
    cells.sort(key=lambda cell: (-table[cell[0]][cell[1]], -mean[cell[0]]))
    first: dict[int, int] = {}
    for prompt, column in cells:
        if table[prompt][column] > 0:
            first.setdefault(prompt, column)
    return list(first.items())


def _pairs(cells: list[tuple[int, int]], before: Evaluation, after: Evaluation) -> list[Pair]:
    return [
        Pair(
            before.prompts[i].text,
            before.seeds[j],
            before.stills[i, j],
            after.stills[i, j],
            before.reward[i, j].item() if before.valid[i, j] else None,
            after.reward[i, j].item() if after.valid[i, j] else None,
            before.files.get((i, j)),
            after.files.get((i, j)),
        )
        for i, j in cells
    ]
