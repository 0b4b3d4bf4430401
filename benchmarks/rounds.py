"""Three rounds of a simulated person: pairs are asked, a reward learns the votes, and a policy learns from it.

    K="--annotator colourfulness --rounds 3 --pairs 256 --doubtful train --steps 12 --learned.epochs 8
        --evaluation.reward colourfulness --evaluation.every 0 --evaluation.ode_steps 0 --evaluation.guidance 1"
    limner loop scenes $K --choice random --out runs/rounds/random-0
    limner loop scenes $K --choice active --out runs/rounds/active-0
    python benchmarks/rounds.py runs/rounds/*         # docs/results/rounds.json

    K="--rounds 3 --pairs 32 --doubtful train --steps 8 --prompts_per_step 6 --group_size 8 --micro_batch 48
        --learned.design.kind linear --learned.design.members 32 --learned.calibration 0
        --evaluation.reward colourfulness --evaluation.every 0 --evaluation.seeds 2 --evaluation.ode_steps 0
        --evaluation.guidance 1"
    for SEED in 0 1 2 3 4 5 6 7 8 9 10 11; do for CHOICE in random active; do
        limner loop scenes $K --annotator "win_rate(benchmarks/person.py:person_$SEED)" --seed $SEED
            --choice $CHOICE --out runs/few/$CHOICE-$SEED
    done; done
    python benchmarks/rounds.py runs/few/* --out docs/results/rounds_few.json

    K="--rounds 1 --pairs 256 --doubtful train --steps 24 --learned.epochs 8 --learned.design.tastes 1
        --evaluation.reward colourfulness --evaluation.every 0 --evaluation.seeds 2 --evaluation.ode_steps 0
        --evaluation.guidance 1"
    P="win_rate(benchmarks/person.py"
    for WHO in person grey; do
        limner loop scenes $K --annotator "$P:person_0); $P:grey_0)" --reward "learned(taste='$P:${WHO}_0)')"
            --out runs/tastes/$WHO-0
    done
    python benchmarks/rounds.py runs/tastes/* --out docs/results/tastes.json

    K="--rounds 3 --pairs 700 --doubtful train --steps 24 --evaluation.every 0 --evaluation.ode_steps 0
        --evaluation.guidance 1"
    limner loop scenes $K --annotator synthetic --learned.heldout 0.02 --learned.calibration 0.1
        --learned.design.kind patches --learned.design.edge 96 --learned.design.members 2
        --learned.design.ties rao_kupper --learned.epochs 20 --out runs/votes/reward-0
    limner loop scenes_dpo --prompts scenes:train --rounds 3 --pairs 700 --out runs/votes/dpo-0
    python benchmarks/rounds.py runs/votes/* --taste scenes.fraction --out docs/results/rounds_votes.json

The person likes colourful pictures; of `few`, who is another one for each seed, errs (`person.py`); of `tastes`, two
people of opposite tastes are asked about each pair, and the policy learns what one of them likes. Of each round: votes
so far and how many pairs were drawn for them; of how many pairs of pictures that the base drew for one held-out prompt
the round's reward, or that taste of it, prefers the more colourful one; and how colourful is what the policy draws for
held-out prompts, before the first round and after this one. Of `votes` it is not colours but how many clauses of its
prompt a picture satisfies, of pairs that differ in that, and how many held-out prompts are satisfied. Intervals are
95 %, over prompts; where loops are named by choice and seed, the means of both choices, and what active choice gains,
have them over seeds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from limner.build import assemble, drawer, load_prompts
from limner.core.media import Media
from limner.core.types import Prompt
from limner.evaluate.statistics import mean_interval
from limner.judges import compose
from limner.looping import LOOP, learned_from
from limner.recipes.named import recipe
from limner.report.data import Interval
from limner.report.file import write_text
from limner.rounds import ROUND, SO_FAR
from temporal import drawn

SEEDS = 4
"""Of those that no policy is measured on."""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loops", type=Path, nargs="+")
    parser.add_argument("--taste", default="colourfulness", help="what the person likes, a reward (colourfulness)")
    parser.add_argument("--out", type=Path, default=Path("docs/results/rounds.json"))
    options = parser.parse_args()
    base = recipe("scenes")
    assembly, asked, seeds = assemble(base), load_prompts(base.evaluation.prompts), range(100, 100 + SEEDS)
    media = drawn(drawer(assembly.parts, assembly.policy("reference")), asked, seeds, 112)
    prompts = [prompt for prompt in asked for _ in seeds]
    liked = compose(options.taste)(media, prompts).score
    found = {}
    for loop in options.loops:
        rounds = sorted(path.parent for path in loop.glob(f"round-*/{ROUND}"))
        found[loop.name] = [told(place, media, prompts, liked) for place in rounds]
        print(loop.name, json.dumps(found[loop.name], indent=1), flush=True)
    if gained := by_choice(found):
        print(json.dumps(gained, indent=1))
        found |= gained
    write_text(options.out, json.dumps(found, indent=1) + "\n")


def told(place: Path, media: Media, prompts: list[Prompt], liked: torch.Tensor) -> dict[str, Any]:
    """Return what came of a round."""
    record = json.loads((place / ROUND).read_text())
    learned = {"order": ordered(place, media, prompts, liked).to_dict()} if "reward" in record else {}
    return {
        "votes": len((place / SO_FAR).read_text().splitlines()),
        "drawn": record["asked"]["drawn"],
        **learned,
        "heldout": record["policy"]["heldout"],
    }


def ordered(place: Path, media: Media, prompts: list[Prompt], liked: torch.Tensor) -> Interval:
    """Return in what share of pairs that are not alike to a person the reward prefers what that person does."""
    reward = json.loads((place.parent / LOOP).read_text())["reward"]
    said = compose(learned_from(reward, str(place / "reward")))(media, prompts).score
    theirs, mine = (each.reshape(-1, SEEDS) for each in (liked, said))
    pairs = list(combinations(range(SEEDS), 2))
    right = torch.stack([(theirs[:, i] > theirs[:, j]) == (mine[:, i] > mine[:, j]) for i, j in pairs], 1)
    differ = torch.stack([theirs[:, i] != theirs[:, j] for i, j in pairs], 1)
    share = (right & differ).sum(1).double() / differ.sum(1)
    return mean_interval(share[differ.any(1), None])


def by_choice(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Return of each round the mean of each choice over seeds that both have, and what active choice gains."""
    seeds = [name.removeprefix("active-") for name in found if name.startswith("active-")]
    seeds = [seed for seed in seeds if f"random-{seed}" in found]
    if len(seeds) < 2:
        return {}
    told: dict[str, list[dict[str, Any]]] = {"random": [], "active": [], "active - random": []}
    for rounds in zip(*(found[f"{choice}-{seed}"] for choice in ("random", "active") for seed in seeds), strict=True):
        measured = {"order": [each["order"]["value"] for each in rounds]}
        measured["heldout"] = [each["heldout"]["after"]["value"] for each in rounds]
        columns = {name: torch.tensor(each).double().view(2, -1) for name, each in measured.items()}
        for name, pick in (("random", 0), ("active", 1)):
            told[name].append({key: mean_interval(each[pick, :, None]).to_dict() for key, each in columns.items()})
        told["active - random"].append(
            {key: mean_interval((each[1] - each[0])[:, None]).to_dict() for key, each in columns.items()}
        )
    return told


if __name__ == "__main__":
    main()
