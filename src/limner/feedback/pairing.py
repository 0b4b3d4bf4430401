"""Which items are asked about together: each two of a prompt, or of many some pairs, each item about equally often."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations, islice

from limner.feedback.task import MOST_RANKED, Item, Kind, Task

MOST_MET = 16
"""Of so many others of its prompt an item meets about as many; of more it meets no more of them."""


def tasks_of(items: Sequence[Item], kind: Kind, most: int = MOST_RANKED) -> list[Task]:
    """Return what is asked of items: two at once (`pairs_of`), each alone, or, at most `most` at once, their order."""
    if kind == "pair":
        return pairs_of(items)
    if kind == "rate":
        return [Task(kind, item.prompt, (item.id,)) for item in items]
    by_prompt: dict[str, dict[str, str]] = defaultdict(dict)
    for item in items:
        by_prompt[item.prompt].setdefault(item.sha256, item.id)
    found = []
    for prompt, several in by_prompt.items():
        ids = list(several.values())
        lots = [tuple(ids[start : start + most]) for start in range(0, len(ids), most)]
        found += [Task(kind, prompt, lot) for lot in lots if len(lot) > 1]
    return found


def pairs_of(items: Sequence[Item]) -> list[Task]:
    """Return a question for each two items of one prompt that different sources made, or, of one source, for each two.

    Of two sources only items with equal seeds meet, where both say their seed. Of n items, more than `MOST_MET` + 1,
    at most n `MOST_MET` / 2 pairs are drawn by chance, the same ones of the same items, so that each item is met about
    equally often: of one source's exactly `MOST_MET` times.
    """
    return [Task("pair", a.prompt, (a.id, b.id)) for lot in _lots(items) for a, b in _met(lot)]


def crowd(items: Sequence[Item], tasks: Sequence[Task]) -> int:
    """Return of how many items not each two are asked about, since `pairs_of` found too many of a prompt; or 0."""
    most = max((len(lot) for lot in _lots(items) if len(lot) > MOST_MET + 1), default=0)
    return most if most and tasks == pairs_of(items) else 0


def _lots(items: Sequence[Item]) -> list[list[Item]]:
    """Return items that meet among themselves: of one prompt, and of one seed where each of the prompt's says its own.

    Where no two sources meet anywhere, they are those of one prompt and one source.
    """
    unseeded = {each.prompt for each in items if each.facts.get("seed") is None}
    across = _by(items, lambda each: (each.prompt, "" if each.prompt in unseeded else repr(each.facts["seed"])))
    meet = [lot for lot in across if len({each.source for each in lot}) > 1 and next(_each_two(lot), None)]
    return meet or _by(items, lambda each: (each.prompt, each.source))


def _by(items: Iterable[Item], key: Callable[[Item], tuple[str, str]]) -> list[list[Item]]:
    lots: dict[tuple[str, str], dict[str, Item]] = defaultdict(dict)
    for each in items:
        lots[key(each)].setdefault(each.id, each)
    return [list(lot.values()) for lot in lots.values()]


def _each_two(lot: Sequence[Item]) -> Iterator[tuple[Item, Item]]:
    """Yield each two items of a lot that may meet."""
    alone = len({each.source for each in lot}) == 1
    return ((a, b) for a, b in combinations(lot, 2) if _may_meet(a, b, alone))


def _may_meet(a: Item, b: Item, alone: bool) -> bool:
    """Tell whether two items of a lot, which is of one source `alone` or of several, may be compared."""
    seeds = a.facts.get("seed"), b.facts.get("seed")
    apart = a.source != b.source and (None in seeds or seeds[0] == seeds[1])
    return a.sha256 != b.sha256 and (alone or apart)


def _met(lot: Sequence[Item]) -> Iterable[tuple[Item, Item]]:
    """Return the pairs of a lot that are asked about."""
    if len(lot) <= MOST_MET + 1:
        return _each_two(lot)
    rng = random.Random(f"pairs {lot[0].prompt}")
    return islice(_drawn(rng.sample(list(lot), len(lot)), rng), len(lot) * MOST_MET // 2)


def _drawn(circle: Sequence[Item], rng: random.Random) -> Iterator[tuple[Item, Item]]:
    """Yield pairs of items that stand in a circle, so that all have met about equally many whenever one stops.

    Each meets those `step` places away, for one step after another, by chance but for the first, 1, which links all.
    Items meet until one of two has met enough, and then until both have: where sources are of very different sizes
    those of a small one meet more than `MOST_MET`, so that those of a large one meet any.
    """
    size, alone = len(circle), len({each.source for each in circle}) == 1
    middle = (size + 1) // 2
    steps = [1, *rng.sample(range(2, middle), middle - 2), *range(middle, size // 2 + 1)]
    met: Counter[int] = Counter()
    found = set[tuple[int, int]]()
    for most_of in (max, min):
        waiting = list(range(size))
        for step in steps:
            waiting = [i for i in waiting if met[i] < MOST_MET]
            for i, j in ((i, (i + side * step) % size) for i in waiting for side in (1, -1)):
                two = min(i, j), max(i, j)
                if most_of(met[i], met[j]) >= MOST_MET or two in found:
                    continue
                if _may_meet(circle[i], circle[j], alone):
                    found.add(two)
                    met.update(two)
                    yield circle[i], circle[j]
