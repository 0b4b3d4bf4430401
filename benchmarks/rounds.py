"""Three rounds of a simulated person: pairs are asked, a reward learns the votes, and a policy learns from it.

    K="--annotator colourfulness --rounds 3 --pairs 256 --steps 12 --learned.epochs 8
        --evaluation.reward colourfulness --evaluation.every 0 --evaluation.ode_steps 0 --evaluation.guidance 1"
    limner loop scenes $K --choice random --out runs/rounds/random-0
    limner loop scenes $K --choice active --out runs/rounds/active-0
    python benchmarks/rounds.py runs/rounds/*         # docs/results/rounds.json

The person likes colourful pictures. Of each round: votes so far and how many pairs were drawn for them; of how many
pairs of pictures that the base drew for one held-out prompt the round's reward knows the more colourful one; and how
colourful is what the policy draws for held-out prompts, before the first round and after this one. Intervals are 95 %,
over prompts.
"""

from __future__ import annotations

import argparse
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from limner.build import assemble, drawer, load_prompts
from limner.core.media import Media
from limner.core.tree import concatenate
from limner.core.types import Prompt
from limner.evaluate.statistics import mean_interval
from limner.judges import compose
from limner.recipes.named import recipe
from limner.report.file import write_text
from limner.rewards.learned.reward import Learned
from limner.rounds import ROUND, SO_FAR

SEEDS = 4


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loops", type=Path, nargs="+")
    parser.add_argument("--taste", default="colourfulness", help="what the person likes, a reward (colourfulness)")
    parser.add_argument("--out", type=Path, default=Path("docs/results/rounds.json"))
    options = parser.parse_args()
    prompts, media = drawn()
    liked = compose(options.taste)(media, prompts).score
    found = {}
    for loop in options.loops:
        rounds = sorted(path.parent for path in loop.glob(f"round-*/{ROUND}"))
        found[loop.name] = [told(place, media, prompts, liked) for place in rounds]
        print(loop.name, json.dumps(found[loop.name], indent=1), flush=True)
    write_text(options.out, json.dumps(found, indent=1) + "\n")


def drawn() -> tuple[list[Prompt], Media]:
    """Return what the base draws for held-out prompts, with seeds that no policy is measured on."""
    base = recipe("scenes")
    assembly, prompts = assemble(base), load_prompts(base.evaluation.prompts)
    draw = drawer(assembly.parts, assembly.policy("reference"))
    lots = [prompts[i : i + 28] for i in range(0, len(prompts), 28)]
    seeds = range(100, 100 + SEEDS)
    parts = [draw([p for p in lot for _ in seeds], [s for _ in lot for s in seeds]).rounded() for lot in lots]
    return [prompt for prompt in prompts for _ in seeds], concatenate(parts)


def told(place: Path, media: Media, prompts: list[Prompt], liked: torch.Tensor) -> dict[str, Any]:
    """Return what came of a round."""
    record = json.loads((place / ROUND).read_text())
    said = Learned(str(place / "reward"))(media, prompts).score
    theirs, mine = (each.reshape(-1, SEEDS) for each in (liked, said))
    pairs = list(combinations(range(SEEDS), 2))
    right = torch.stack([(theirs[:, i] > theirs[:, j]) == (mine[:, i] > mine[:, j]) for i, j in pairs], 1)
    return {
        "votes": len((place / SO_FAR).read_text().splitlines()),
        "drawn": record["asked"]["drawn"],
        "order": mean_interval(right.double()).to_dict(),
        "heldout": record["policy"]["heldout"],
    }


if __name__ == "__main__":
    main()
