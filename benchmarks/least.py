"""The least that DPO's loss can be on the oracle worlds, time by time, on coarser and finer grids.

    python benchmarks/least.py --entry "DPO, beta 8" --lines 21 41 81

prints a row for each world and time: what the base loses, what the best field that was found loses on pairs that it was
not found on and on those that it was (on the last grid), and what free gaps would lose.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from limner.algorithms.dpo import DPO
from limner.bench import fields
from limner.bench.oracles import ENTRIES, annotator
from limner.worlds.oracle.world import WORLDS


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entry", default="DPO, beta 8", choices=[n for n in ENTRIES if ENTRIES[n].given])
    parser.add_argument("--lines", type=int, nargs="+", default=list(fields.GRIDS), help="of the grids, on an axis")
    parser.add_argument("--pairs", type=int, default=fields.PAIRS, help="a time, that fields are found on")
    parsed = parser.parse_args(arguments)
    algorithm = ENTRIES[parsed.entry].algorithm
    if not isinstance(algorithm, DPO):
        parser.error(f"{parsed.entry} has another loss than DPO's")
    fields.GRIDS, fields.PAIRS = tuple(parsed.lines), parsed.pairs
    print("| world | t | base | best field | where it was found | free gaps |\n|---|--:|--:|--:|--:|--:|")
    for world in WORLDS:
        for each in fields.least(world, algorithm, annotator(world)):
            told = (f"{number:.4f}" for number in (each.base, each.best, each.seen, each.bayes))
            print(f"| {world} | {each.t:.2f} | {' | '.join(told)} |", flush=True)


if __name__ == "__main__":
    main()
