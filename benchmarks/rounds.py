"""Three rounds of people, simulated: pairs are asked, a reward learns the votes, and a policy learns from it.

    K="--rounds 3 --pairs 512 --steps 24 --evaluation.every 0 --evaluation.ode_steps 0 --evaluation.guidance 1
        --learned.design.kind patches --learned.design.edge 96 --learned.epochs 10"
    limner loop scenes $K --choice random --out runs/rounds/random-0
    limner loop scenes $K --choice active --out runs/rounds/active-0
    python benchmarks/rounds.py runs/rounds/*         # docs/results/rounds.json

Of each round: votes so far; how the round's reward orders pairs of held-out prompts that the base drew, beside the
best that can be known (`benchmarks/reward_model.py`); and how often the policy satisfies the whole of held-out prompts,
by the exact checker, before the round and after it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import reward_model
from limner.report.file import write_text
from limner.rounds import ROUND, SO_FAR


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loops", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("docs/results/rounds.json"))
    options = parser.parse_args()
    found = json.loads(options.out.read_text()) if options.out.exists() else {}
    for loop in options.loops:
        rounds = sorted(path.parent for path in loop.glob(f"round-*/{ROUND}"))
        found[loop.name] = [told(place) for place in rounds]
        print(loop.name, json.dumps(found[loop.name], indent=1), flush=True)
    write_text(options.out, json.dumps(found, indent=1) + "\n")


def told(place: Path) -> dict[str, Any]:
    """Return what came of a round."""
    record = json.loads((place / ROUND).read_text())
    votes = len((place / SO_FAR).read_text().splitlines())
    row = {"votes": votes, "drawn": record["asked"]["drawn"], "heldout": record["policy"]["heldout"]}
    if "reward" in record:
        known = reward_model.measure(place / "reward")
        row |= {key: known[key] for key in ("accuracy", "bayes", "of_bayes", "order")}
    return row


if __name__ == "__main__":
    main()
