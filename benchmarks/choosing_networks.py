"""Does choosing pairs teach the networks of `limner reward train` more, at equally many labels?

    python benchmarks/choosing_networks.py                    # weights on EfficientNet's features, by their posterior
    python benchmarks/choosing_networks.py --kind small       # networks of their own, as limner loop's are; hours

As `choosing.py` asks it of a linear reward. Pictures are scenes as the world renders them, each pair with a prompt of
its own. A simulated person likes a direction, drawn anew for each seed, of six numbers of a picture, the means and
the spreads of its three colours, and answers by Bradley-Terry. As in a loop, the reward is trained anew in each round
on all votes so far, but for those of a share of prompts, to which its scale is fitted; pairs are chosen by the
`disagreement` of its members, `chosen` from a pool of fresh ones four times as many, a fifth of them by chance.
Measured is the share of held-out pairs, which nobody chose, that the members' mean puts in the order of the utilities;
95 % intervals are over seeds, which both ways of choosing share, and so the first round's votes.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from choosing import EXPLORE, RANDOM, STRENGTH, Way
from limner.core.rng import Rng, fixed_share
from limner.core.types import OVERALL
from limner.evaluate.statistics import mean_interval
from limner.feedback.choosing import chosen
from limner.objectives.choice import disagreement
from limner.report.file import write_text
from limner.rewards.learned.design import Design, Kind
from limner.rewards.learned.network import Ensemble
from limner.training.certainty import certainty
from limner.training.judgements import Judgements
from limner.training.reward_model import LEARNED, LOT, Features, RewardTraining, train, worths
from limner.worlds.scenes.grammar import prompts, sample_scene
from limner.worlds.scenes.render import render

EDGE = 32
PICTURES = {"train": 4096, "heldout": 1024}
"""Two of them are a pair."""
ROUND, LABELS = 32, (32, 64, 96, 128)
CALIBRATION = 0.15
"""Share of the prompts that the scale is fitted to."""
WAYS: Mapping[str, Way] = {RANDOM: Way(1), "active, pool 4": Way(4)}
MEMBERS: Mapping[Kind, int] = {"linear": 32, "small": 3}
"""Of a reward of each kind; those of a posterior cost nothing."""

Split = Literal["train", "heldout"]


class World(NamedTuple):
    """Pictures of a split, two after another a pair, six numbers of each, and what is frozen of what a reward sees."""

    pictures: UInt8[Tensor, "pictures 3 edge edge"]
    numbers: Float[Tensor, "pictures 6"]
    seen: Float[Tensor, "pictures width"] | None = None

    def looked_at(self, design: Design) -> World:
        """Return this world with what a frozen network sees of each picture, once for all."""
        if design.kind != "linear":
            return self
        network = Ensemble(design, (), 1).member(0).network
        with torch.no_grad():
            return self._replace(seen=torch.cat([network.see(lot.float() / 255) for lot in self.pictures.split(LOT)]))

    def bank(self, rows: Int[Tensor, " rows"]) -> Features:
        """Return what is frozen of some pictures; prompts tell nothing here."""
        return LEARNED if self.seen is None else Features(self.seen[rows][:, None].half(), None)


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=tuple(MEMBERS), default="linear")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    options = parser.parse_args()
    found = compare(options.kind, options.seeds)
    print(json.dumps(found, indent=1))
    write_text(options.out / f"choosing_{options.kind}.json", json.dumps(found, indent=1) + "\n")


def compare(kind: Kind, seeds: int) -> dict[str, Any]:
    """Return the held-out order by labels and way of choosing, and what choosing gains, over seeds."""
    how = RewardTraining(design=Design(kind=kind, edge=EDGE, width=32, members=MEMBERS[kind]), epochs=20, contrast=0.0)
    train_world, heldout = (world.looked_at(how.design) for world in worlds())
    curves = {
        name: torch.tensor([curve(train_world, heldout, way, seed, how) for seed in range(seeds)])
        for name, way in WAYS.items()
    }
    gained = {f"{name} - {RANDOM}": each - curves[RANDOM] for name, each in curves.items() if name != RANDOM}
    return {
        name: [{"labels": n, **mean_interval(row[:, None]).to_dict()} for n, row in zip(LABELS, each.T, strict=True)]
        for name, each in (curves | gained).items()
    }


def worlds() -> tuple[World, World]:
    """Return both splits; the six numbers are on the scale of the training pictures."""
    made = {split: rendered(split) for split in PICTURES}
    told = {split: torch.cat([each.mean((2, 3)), each.std((2, 3))], 1) for split, each in made.items()}
    middle, width = told["train"].mean(0), told["train"].std(0)
    train_world, heldout = (
        World((made[split] * 255).round().byte(), ((told[split] - middle) / width).double()) for split in PICTURES
    )
    return train_world, heldout


def rendered(split: str) -> Float[Tensor, "pictures 3 edge edge"]:
    """Return scenes as the world renders them, in a smaller size."""
    rng = np.random.default_rng(Rng(("choosing", "networks", split)).seed())
    shown = np.stack([render(sample_scene(rng), rng) for _ in range(PICTURES[split])])
    pixels = torch.from_numpy(shown).permute(0, 3, 1, 2).float() / 255
    return torch.nn.functional.interpolate(pixels, size=(EDGE, EDGE), mode="area")


def curve(world: World, heldout: World, way: Way, seed: int, how: RewardTraining) -> Sequence[float]:
    """Return the held-out order after each number of labels, pairs being chosen in some way."""
    generator, rng = Rng(("choosing", "networks", seed)).generator(), random.Random(seed)
    axis = torch.randn(world.numbers.shape[1], generator=generator, dtype=torch.float64)
    mine, theirs = (STRENGTH * each.numbers @ (axis / axis.norm()) for each in (world, heldout))
    order = 2 * torch.randperm(len(mine) // 2, generator=generator)
    rows, won = torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.float64)
    members: Members | None = None
    found, at = [], 0
    while len(rows) < LABELS[-1]:
        size = ROUND * (1 if members is None else way.pool)
        drawn = order[at : at + size]
        at += size
        if members is not None and way.pool > 1:
            gain = disagreement(members.leads(world, drawn))
            drawn = drawn[list(chosen(gain.tolist(), ROUND, EXPLORE, rng)[0])]
        rows = torch.cat([rows, drawn])
        chance = torch.sigmoid(mine[drawn] - mine[drawn + 1])
        won = torch.cat([won, torch.bernoulli(chance, generator=generator)])
        members = learned(world, rows, won, how)
        every = torch.arange(0, len(theirs), 2)
        lead = members.leads(heldout, every).mean(0)
        if len(rows) in LABELS:
            found.append(float(((lead > 0) == (theirs[every] > theirs[every + 1])).double().mean()))
    return found


class Members(NamedTuple):
    """A trained reward: its networks, and what their worths are multiplied by."""

    ensemble: Ensemble
    scale: float

    def leads(self, world: World, rows: Int[Tensor, " pairs"]) -> Float[Tensor, "m pairs"]:
        """Return by how much the first of each pair leads, by each member."""
        both = torch.cat([rows, rows + 1])
        with torch.no_grad():
            if world.seen is None:
                seen = self.ensemble.see(world.pictures[both].float() / 255)
            else:
                seen = [world.seen[both]] * len(self.ensemble.members)
            said = self.ensemble.each(self.ensemble.say(seen, texts(len(rows)) * 2))
        first, second = torch.stack([each.mean[:, 0] for each in said]).double().chunk(2, 1)
        return self.scale * (first - second)


def learned(world: World, rows: Int[Tensor, " pairs"], won: Tensor, how: RewardTraining) -> Members:
    """Return a reward that was trained on votes, those on some prompts aside, to which its scale was fitted."""
    whole, bank = judgements(world.pictures, rows, won), world.bank(torch.cat([rows, rows + 1]))
    aside = torch.tensor([fixed_share(text) < CALIBRATION for text in whole.texts])
    ensemble, _, people, bank = train(whole.among(~aside), how, lambda line: None, bank)
    sure = certainty(worths(ensemble, people, whole, bank), whole.among(aside), 0)
    return Members(ensemble, sure.scale)


def judgements(pictures: UInt8[Tensor, "n 3 edge edge"], rows: Int[Tensor, " pairs"], won: Tensor) -> Judgements:
    """Return votes on pairs, each with a prompt of its own."""
    count = len(rows)
    asked, place = texts(count), torch.arange(count)
    unique = list(dict.fromkeys(asked))
    text = torch.tensor([unique.index(each) for each in asked])
    return Judgements(
        pictures=torch.cat([pictures[rows], pictures[rows + 1]])[:, None],
        texts=unique,
        categories=[""] * len(unique),
        text=text.repeat(2),
        questions=[OVERALL],
        pairs=torch.stack([place, count + place], 1),
        votes=torch.stack([won, torch.zeros_like(won), 1 - won], 1).float()[:, None],
        people=[()] * count,
        rankings=torch.zeros(0, 2, dtype=torch.long),
        ranked=torch.zeros(0, 2, dtype=torch.bool),
        rated=torch.zeros(0, dtype=torch.long),
        liked=torch.zeros(0),
    )


def texts(count: int) -> list[str]:
    """Return prompts of the world, one a pair; none of a picture's own, which the person does not look at."""
    known = [prompt.text for prompt in prompts("train")]
    return [known[i % len(known)] for i in range(count)]


if __name__ == "__main__":
    main()
