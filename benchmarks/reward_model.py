"""Learn a reward from a simulated annotator of known taste on the scenes world, and see what it is worth.

    python benchmarks/reward_model.py votes                # pictures by the base, and what the annotators say of them
    limner reward train runs/reward-model/votes.jsonl --out runs/reward-model/taste KEYS
    python benchmarks/reward_model.py measure              # against Bayes, on people and prompts that are held out

The annotators are oracle O7, whose utility is here the exact checker's share of clauses: eight judge pictures of
training prompts, two others those of held-out ones. docs/results/reward_model.json was made with the KEYS

    --design.kind patches --design.edge 96 --design.members 6 --design.ties rao_kupper --epochs 11
        --heldout 0.02 --calibration 0.1

which take an hour and a half of one core.
"""

from __future__ import annotations

import argparse
import json
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from limner.build import drawer, load_prompts
from limner.core.media import Images
from limner.core.protocols import Jury
from limner.core.rng import Rng
from limner.core.types import Prompt
from limner.evaluate.ordering import ordering
from limner.judges import compose
from limner.judging.checked import Checked
from limner.objectives.choice import discounted
from limner.pairs import opened
from limner.report.file import write_text
from limner.rewards.learned.folder import read_card
from limner.rewards.learned.reward import Learned
from limner.worlds.annotator import Annotator

PLACE = Path("runs/reward-model")
NOISE, TIES = 0.2, 0.25
COUNT = {"train": 20, "heldout": 12}
"""Pictures of each prompt."""
PEOPLE = {"train": 8, "heldout": 2}
FIRST_SEED = 10_000
LOT = 144

Split = Literal["train", "heldout"]


def main() -> None:
    """Make votes, or measure a reward."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("votes", "measure"))
    parser.add_argument("--reward", type=Path, default=PLACE / "taste")
    parser.add_argument("--pictures", type=int, default=COUNT["train"], help="of each training prompt (20)")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    options = parser.parse_args()
    if options.task == "votes":
        splits: tuple[Split, ...] = ("train", "heldout")
        for split in splits:
            rows = votes(split, options.pictures if split == "train" else COUNT[split])
            name = "votes.jsonl" if split == "train" else "others.jsonl"
            write_text(PLACE / name, "".join(json.dumps(row) + "\n" for row in rows))
            print(f"{PLACE / name}: {len(rows)} votes")
    else:
        found = measure(options.reward)
        print(json.dumps(found, indent=1))
        write_text(options.out / "reward_model.json", json.dumps(found, indent=1) + "\n")


def pictures(split: Split, count: int) -> tuple[list[Prompt], list[list[Path]]]:
    """Return the prompts of a split, each text once, and its pictures by the base, drawn where they are missing."""
    prompts = list({prompt.text: prompt for prompt in load_prompts(f"scenes:{split}")}.values())
    folder = PLACE / split
    folder.mkdir(parents=True, exist_ok=True)
    paths = [[folder / f"{i:03d}-{seed}.png" for seed in range(count)] for i in range(len(prompts))]
    missing = [seed for seed in range(count) if not all(each[seed].exists() for each in paths)]
    if missing:
        run = opened("scenes")
        draw = drawer(run.assembly.parts, run.assembly.policy("policy", None))
    for seed in missing:
        for start in range(0, len(prompts), LOT):
            some = prompts[start : start + LOT]
            media = draw(some, [FIRST_SEED + seed] * len(some))
            media.save([paths[start + i][seed] for i in range(len(some))])
    return prompts, paths


def utilities(prompts: list[Prompt], paths: list[list[Path]]) -> Float[Tensor, "prompts pictures"]:
    """Return what the exact checker says: the share of its prompt's clauses that a picture satisfies."""
    judges = compose("scenes_fraction")
    return torch.stack(
        [_judged(judges, [prompt] * len(each), each) for prompt, each in zip(prompts, paths, strict=True)]
    )


def chances(lead: Float[Tensor, " pairs"]) -> Float[Tensor, "pairs 3"]:
    """Return how likely it is that an annotator says: the first, that both are alike, the second."""
    return torch.stack(Annotator("scenes_fraction", noise=NOISE, ties=TIES).answers(lead), 1)


def votes(split: Split, count: int) -> list[dict[str, Any]]:
    """Return a row for each pair of `count` pictures of a prompt, each judged by one annotator."""
    prompts, paths = pictures(split, count)
    worth, generator = utilities(prompts, paths), Rng(("votes", split)).generator()
    first_person = 1 if split == "train" else 1 + PEOPLE["train"]
    rows = []
    for i, prompt in enumerate(prompts):
        pairs = list(combinations(range(count), 2))
        a, b = torch.tensor(pairs).unbind(1)
        said = torch.multinomial(chances(worth[i, a] - worth[i, b]), 1, generator=generator)[:, 0].tolist()
        who = torch.randint(PEOPLE[split], (len(pairs),), generator=generator).tolist()
        for (x, y), choice, person in zip(pairs, said, who, strict=True):
            row = {
                "prompt": prompt.text,
                "category": prompt.category,
                "media_a": str(paths[i][x].relative_to(PLACE)),
                "media_b": str(paths[i][y].relative_to(PLACE)),
                "choice": ("a", "tie", "b")[choice],
                "annotators": [f"annotator-{first_person + person}"],
            }
            rows.append(row)
    return rows


def measure(reward: Path) -> dict[str, Any]:
    """Return how a learned reward orders pairs of held-out prompts, beside the best that can be known.

    Calibration is against the annotators' true chances, and, `sampled`, against a vote on each pair.
    """
    prompts, paths = pictures("heldout", COUNT["heldout"])
    worth = utilities(prompts, paths)
    judge = Checked("learned", Learned(str(reward)))
    answers = [judge(media_of(each), [prompt] * len(each)) for prompt, each in zip(prompts, paths, strict=True)]
    score = torch.stack([each.score for each in answers])
    spread = torch.stack([each.uncertainty for each in answers if each.uncertainty is not None])
    a, b = torch.tensor(list(combinations(range(COUNT["heldout"]), 2))).unbind(1)
    lead, truth = (score[:, a] - score[:, b]).flatten(), (worth[:, a] - worth[:, b]).flatten() / NOISE
    text = torch.arange(len(prompts)).repeat_interleave(len(a))
    chance = chances(truth * NOISE)
    generator = Rng(("votes", "measure")).generator()
    said = torch.nn.functional.one_hot(torch.multinomial(chance, 1, generator=generator)[:, 0], 3).double()
    deviation = (spread[:, a].square() + spread[:, b].square()).flatten().sqrt()
    unlapsed, ahead = discounted(lead, deviation.square()), torch.where(lead > 0, 0, 2)
    stated = read_card(reward).lapses[0].log_odds(unlapsed)
    found, known = (ordering(stated, each, text, ahead) for each in (said, chance))
    sides = chance[:, [0, 2]] / chance[:, [0, 2]].sum(1, keepdim=True)
    right = torch.where(lead > 0, sides[:, 0], sides[:, 1])
    bayes = sides.amax(1)
    apart = truth != 0
    miss, of_odds = (lead - truth).abs(), (lead - sides[:, 0].logit()).abs()
    return {
        "pairs": len(lead),
        "prompts": len(prompts),
        "accuracy": round(float(right.mean()), 4),
        "bayes": round(float(bayes.mean()), 4),
        "of_bayes": round(float(right.mean() / bayes.mean()), 4),
        "order": round(float(((lead > 0) == (truth > 0))[apart].double().mean()), 4),
        "calibration_error": round(known.reliability.error, 4),
        "calibration_error_without_lapses": round(ordering(unlapsed, chance, text, ahead).reliability.error, 4),
        "sampled": {"accuracy": found.accuracy.to_dict(), "calibration_error": round(found.reliability.error, 4)},
        "reliability": {
            "stated": [round(x, 4) for x in known.reliability.stated.tolist()],
            "true": [round(x, 4) for x in known.reliability.true.tolist()],
            "cases": known.reliability.cases.tolist(),
        },
        "uncertainty": {
            "within_95": round(float((miss <= 1.96 * deviation).double().mean()), 4),
            "odds_within_95": round(float((of_odds <= 1.96 * deviation).double().mean()), 4),
            "miss_of_the_surer_half": round(float(miss[deviation <= deviation.median()].mean()), 4),
            "miss_of_the_others": round(float(miss[deviation > deviation.median()].mean()), 4),
        },
    }


def _judged(judges: Jury, prompts: list[Prompt], paths: list[Path]) -> Float[Tensor, " pictures"]:
    return judges.columns(media_of(paths), prompts)["scenes_fraction"].double()


def media_of(paths: list[Path]) -> Images:
    """Return pictures, from their files."""
    levels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
    return Images(torch.from_numpy(levels).permute(0, 3, 1, 2))


if __name__ == "__main__":
    main()
