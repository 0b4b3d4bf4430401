"""Do pairs that are chosen teach a reward more than pairs at random, at equally many labels?

    python benchmarks/choosing.py            # pictures as in reward_model.py, encoded once; some minutes of a core
    python benchmarks/choosing.py --sharper  # does it matter how sure members are? a minute, and no picture

Pairs are two pictures that the base drew for one training prompt. Two kinds of simulated people of known utility judge
them by Bradley-Terry, as oracle O7 does: `taste` likes what stands in the pictures in a direction of the features,
drawn anew for each seed, which the reward can learn exactly; `colourful` likes colourfulness, which it can in part. The
reward is linear in the principal components of EfficientNet-Lite0's features; its posterior is Laplace's, and its
members are draws from that. Pairs are chosen as `limner loop --choice active` chooses: by `disagreement` of members,
`chosen` from a pool of fresh pairs 4 or 16 times as many, a fifth of them by chance. What is measured is the share of
pairs of held-out prompts, drawn by nobody's choice, that the posterior's mode puts in the order of the utilities; 95 %
intervals are over seeds, which all ways of choosing share, and so the first labels.

A reward's leads are in nats by a scale that is fitted to votes, and what is fitted with it decides how sharp they are.
`--sharper` multiplies the leads of members by 1/4 to 4 before pairs are chosen, and by nothing else: pictures are then
drawn in the space of the features, from a standard Gaussian, and people like a direction of it.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limner.core.rng import Rng
from limner.evaluate.statistics import mean_interval
from limner.feedback.choosing import chosen
from limner.judging.checked import Checked
from limner.judging.efficientnet import picture_features
from limner.objectives.choice import disagreement
from limner.objectives.logistic import fit_bradley_terry
from limner.report.file import write_text
from limner.rewards.colourfulness import colourfulness
from reward_model import COUNT, Split, media_of, pictures

Kind = Literal["taste", "colourful"]
KINDS: Sequence[Kind] = ("taste", "colourful")
COMPONENTS = 32
STRENGTH = 1.5
"""Nats that a standard deviation of what somebody likes is worth."""
RIDGE = 4.0
"""Precision of the prior on each weight."""
MEMBERS, EXPLORE = 8, 0.2
LABELS = (32, 64, 128, 256, 512)
ROUND = 32
LOT = 64


class Way(NamedTuple):
    """How pairs are chosen: from a pool so many times as large, by leads of members that many times as great."""

    pool: int
    sharper: float = 1.0


RANDOM = "random"
WAYS: Mapping[str, Way] = {RANDOM: Way(1), "active, pool 4": Way(4), "active, pool 16": Way(16)}
SHARPER: Mapping[str, Way] = {RANDOM: Way(1)} | {
    f"active, pool 4, leads x {by:g}": Way(4, by) for by in (0.25, 0.5, 1.0, 2.0, 4.0)
}


@dataclass(frozen=True)
class World:
    """Pictures of a split: their features, how colourful they are, and pairs of one prompt."""

    components: Float[Tensor, "pictures components"]
    colourful: Float[Tensor, " pictures"]
    pairs: Int[Tensor, "pairs 2"]

    def worth(self, kind: Kind, axis: Float[Tensor, " components"]) -> Float[Tensor, " pictures"]:
        """Return what pictures are worth to somebody, in nats."""
        return STRENGTH * (self.components @ axis if kind == "taste" else self.colourful)

    def features(self, pairs: Int[Tensor, "pairs 2"]) -> Float[Tensor, "pairs components"]:
        """Return the difference of features of each pair."""
        return self.components[pairs[:, 0]] - self.components[pairs[:, 1]]


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--sharper", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    options = parser.parse_args()
    if options.sharper:
        found = {"taste": compare("taste", *drawn(), options.seeds, SHARPER)}
    else:
        train, heldout = worlds()
        found = {kind: compare(kind, train, heldout, options.seeds, WAYS) for kind in KINDS}
    print(json.dumps(found, indent=1))
    name = "choosing_sharper.json" if options.sharper else "choosing.json"
    write_text(options.out / name, json.dumps(found, indent=1) + "\n")


def drawn(pictures: int = 4000, count: int = 4) -> tuple[World, World]:
    """Return two worlds of pictures that are points of the space of features, `count` for each prompt."""
    made = []
    for name in ("train", "heldout"):
        components = torch.randn(pictures, COMPONENTS, generator=Rng(("choosing", name)).generator()).double()
        both = torch.tensor(list(combinations(range(count), 2)))
        pairs = (both[None] + torch.arange(0, pictures, count)[:, None, None]).flatten(0, 1)
        made.append(World(components, components[:, 0], pairs))
    return made[0], made[1]


def worlds() -> tuple[World, World]:
    """Return both splits, on the scale of the training pictures."""
    splits: tuple[Split, ...] = ("train", "heldout")
    seen, colours, pairs = [], [], []
    for split in splits:
        prompts, paths = pictures(split, COUNT[split])
        media = [media_of(each) for each in paths]
        frames = torch.cat([each.frames()[:, 0].float() for each in media])
        with torch.no_grad():
            seen.append(torch.cat([picture_features(lot) for lot in frames.split(LOT)]).double())
        judge = Checked("colourfulness", colourfulness)
        colours.append(
            torch.cat([judge(each, [p] * len(x)).score for each, p, x in zip(media, prompts, paths, strict=True)])
        )
        count = len(paths[0])
        both = torch.tensor(list(combinations(range(count), 2)))
        pairs.append((both[None] + count * torch.arange(len(prompts))[:, None, None]).flatten(0, 1))
    centre, middle, width = seen[0].mean(0), colours[0].mean(), colours[0].std()
    _, scale, axes = torch.linalg.svd(seen[0] - centre, full_matrices=False)
    turn = axes[:COMPONENTS].T / scale[:COMPONENTS] * len(seen[0]) ** 0.5
    train, heldout = (World((seen[i] - centre) @ turn, (colours[i] - middle) / width, pairs[i]) for i in range(2))
    return train, heldout


def compare(kind: Kind, train: World, heldout: World, seeds: int, ways: Mapping[str, Way]) -> dict[str, Any]:
    """Return the held-out order by labels and way of choosing, and what choosing gains, over seeds."""
    every = range(seeds)
    curves = {n: torch.tensor([curve(kind, train, heldout, way, s) for s in every]) for n, way in ways.items()}
    gained = {f"{name} - {RANDOM}": each - curves[RANDOM] for name, each in curves.items() if name != RANDOM}
    return {
        name: [_at(n, row) for n, row in zip(LABELS, each.T, strict=True)] for name, each in (curves | gained).items()
    }


def _at(labels: int, found: Float[Tensor, " seeds"]) -> dict[str, Any]:
    return {"labels": labels, **mean_interval(found[:, None]).to_dict()}


def curve(kind: Kind, train: World, heldout: World, way: Way, seed: int) -> Sequence[float]:
    """Return the held-out order after each number of labels, pairs being chosen in some way."""
    generator, rng = Rng(("choosing", kind, seed)).generator(), random.Random(f"{kind} {seed}")
    axis = torch.randn(COMPONENTS, generator=generator, dtype=torch.float64)
    mine, theirs = (world.worth(kind, axis / axis.norm()) for world in (train, heldout))
    order = torch.randperm(len(train.pairs), generator=generator)
    unseen, lead = heldout.features(heldout.pairs), theirs[heldout.pairs[:, 0]] - theirs[heldout.pairs[:, 1]]
    x, won = torch.zeros(0, COMPONENTS, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
    members, found, at = None, [], 0
    while len(x) < LABELS[-1]:
        size = ROUND * (1 if members is None else way.pool)
        drawn = train.pairs[order[at : at + size]]
        at += size
        if members is not None and way.pool > 1:
            gain = disagreement(way.sharper * members @ train.features(drawn).T)
            drawn = drawn[list(chosen(gain.tolist(), ROUND, EXPLORE, rng)[0])]
        x = torch.cat([x, train.features(drawn)])
        chance = torch.sigmoid(mine[drawn[:, 0]] - mine[drawn[:, 1]])
        won = torch.cat([won, torch.bernoulli(chance, generator=generator)])
        mode, members = posterior(x, won, generator)
        if len(x) in LABELS:
            found.append(float(((unseen @ mode > 0) == (lead > 0))[lead != 0].double().mean()))
    return found


def posterior(
    x: Float[Tensor, "pairs components"], won: Float[Tensor, " pairs"], generator: torch.Generator
) -> tuple[Float[Tensor, " components"], Float[Tensor, "members components"]]:
    """Return the mode of the weights, and draws by Laplace: the precision at the mode is X' p (1 - p) X + RIDGE."""
    weights = fit_bradley_terry(x, won, RIDGE).weights
    chance = torch.sigmoid(x @ weights)
    precision = x.T @ ((chance * (1 - chance))[:, None] * x) + RIDGE * torch.eye(x.shape[1], dtype=torch.float64)
    root = torch.linalg.cholesky(precision)
    normal = torch.randn(x.shape[1], MEMBERS, generator=generator, dtype=torch.float64)
    return weights, weights + torch.linalg.solve_triangular(root.T, normal, upper=True).T


if __name__ == "__main__":
    main()
