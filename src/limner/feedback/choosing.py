"""Who is asked what next: as many votes a pair as it needs, some known ones, some twice."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betainc, digamma
from scipy.stats import hypergeom

from limner.core.settings import Count, Share, settings
from limner.feedback.task import Source, Task, held_out

APART = 10
"""At least so many answers lie between a question and its repetition."""


@settings
class Asking:
    """How questions are given out.

    A pair is settled once it has `least` votes and one side is better with posterior probability `sure`, or once it has
    `most`. `gold` of the questions have a known answer, `repeat` come again with sides swapped. With `active` the pair
    that a vote is expected to tell most about goes first, but for a share `explore` drawn by chance, and for pairs of
    prompts that are held out: these are for measuring, and asked as often as all, by chance. With what probability each
    was drawn is kept.
    """

    least: Count = 1
    most: Count = 1
    sure: Share = 0.95
    gold: Share = 0.08
    repeat: Share = 0.05
    active: bool = False
    explore: Share = 0.2
    lease_seconds: Count = 1800


@dataclass
class Tally:
    """The votes of one pair, a tie half a vote for each side; and until when it is in somebody's hands."""

    first: float = 0.0
    second: float = 0.0
    leases: int = 0

    @property
    def votes(self) -> float:
        """Return how many there are."""
        return self.first + self.second


def settled(tally: Tally, asking: Asking) -> bool:
    """Tell whether a pair needs no more votes: P(theta > 1/2), theta ~ Beta(1 + first, 1 + second), is near 0 or 1."""
    if tally.votes >= asking.most:
        return True
    better = 1 - float(betainc(1 + tally.first, 1 + tally.second, 0.5))
    return tally.votes >= asking.least and max(better, 1 - better) >= asking.sure


def expected_gain(tally: Tally) -> float:
    """Return what the next vote is expected to tell of theta ~ Beta(a, b), in nats.

    I(vote; theta) = H(a / n) + (a psi(a + 1) + b psi(b + 1)) / n - psi(n + 1), n = a + b, H the entropy of one bit's
    probability: the entropy of the vote less the expected entropy of a vote whose theta is known.

    Source: BALD, arXiv:1112.5745, eq. 2, for a Beta-Bernoulli model (by hand).
    """
    a, b = 1 + tally.first, 1 + tally.second
    n = a + b
    entropy = -(a / n) * math.log(a / n) - (b / n) * math.log(b / n)
    return float(entropy + (a * digamma(a + 1) + b * digamma(b + 1)) / n - digamma(n + 1))


def chosen(
    gain: Sequence[float], count: int, explore: float, rng: random.Random
) -> tuple[Sequence[int], Sequence[float]]:
    """Return which `count` of a pool are asked, in its order, and with what probability each of these was to be.

    A share `explore` of them is drawn by chance from all; the others are those of the rest with the greatest gain, the
    earlier one of two alike. The one of rank r (from 0) of N is asked with

        P = u / N + (1 - u / N) P(X > r - (count - u)),      X ~ Hypergeometric(N - 1, r, u)

    u being how many are drawn by chance: it is among them, or so many better ones are that a place is left.
    """
    size, by_chance = len(gain), round(explore * count)
    drawn = set(rng.sample(range(size), by_chance))
    order = sorted(range(size), key=lambda i: -gain[i])
    asked = sorted(drawn | set([i for i in order if i not in drawn][: count - by_chance]))
    share = by_chance / size
    rank = {i: r for r, i in enumerate(order)}
    ranks = np.array([rank[i] for i in asked])
    left = hypergeom.sf(ranks - (count - by_chance), size - 1, ranks, by_chance)
    return asked, [share + (1 - share) * float(each) for each in left]


def apart(
    prompts: Sequence[str], gain: Sequence[float], count: int, explore: float, rng: random.Random
) -> list[tuple[int, Source, float]]:
    """Return which `count` of a pool of pairs are asked, in its order, why, and with what probability each was to be.

    Of held-out prompts' pairs a share equal to that of all is drawn by chance; they are for measuring. The others are
    `chosen`.
    """
    held = [i for i, prompt in enumerate(prompts) if held_out(prompt)]
    rest = sorted(set(range(len(prompts))).difference(held))
    many = round(count * len(held) / len(prompts))
    asked: list[tuple[int, Source, float]] = [(i, "random", many / len(held)) for i in rng.sample(held, many)]
    if rest:
        places, odds = chosen([gain[i] for i in rest], count - many, explore, rng)
        asked += [(rest[place], "active", p) for place, p in zip(places, odds, strict=True)]
    return sorted(asked)


def choose(
    tasks: Sequence[Task],
    tallies: Mapping[str, Tally],
    seen: Collection[str],
    answered: Sequence[str],
    repeated: Collection[str],
    asking: Asking,
    rng: random.Random,
) -> tuple[Task, Source, float] | None:
    """Return the next question for somebody who was asked `seen` and answered `answered`, why, and how probable it was.

    None: there is nothing left to ask.
    """
    by_id = {task.id: task for task in tasks}
    draw = rng.random()
    again = [id for id in answered[:-APART] if id not in repeated and by_id[id].better is None]
    if again and draw < asking.repeat:
        return by_id[rng.choice(again)], "repeat", 1 / len(again)
    known = [task for task in tasks if task.better is not None and task.id not in seen]
    if known and asking.repeat <= draw < asking.repeat + asking.gold:
        return rng.choice(known), "gold", 1 / len(known)
    open_ = [task for task in tasks if task.better is None and task.id not in seen]
    open_ = [task for task in open_ if not settled(tallies[task.id], asking)]
    if not open_:
        return None
    measuring = [task for task in open_ if not asking.active or held_out(task.prompt)]
    share = len(measuring) / len(open_)
    if rng.random() < share:
        waiting = [tallies[task.id].votes + tallies[task.id].leases for task in measuring]
        first = [task for task, n in zip(measuring, waiting, strict=True) if n == min(waiting)]
        return rng.choice(first), "random", share / len(first)
    rest = [task for task in open_ if not held_out(task.prompt)]
    gains = [expected_gain(tallies[task.id]) / (1 + tallies[task.id].leases) for task in rest]
    best = [i for i, gain in enumerate(gains) if gain >= max(gains) - 1e-12]
    i = rng.randrange(len(rest)) if rng.random() < asking.explore else rng.choice(best)
    propensity = asking.explore / len(rest) + (1 - asking.explore) * (i in best) / len(best)
    return rest[i], "active", (1 - share) * propensity
