"""Measure both judges of the emoji world: is a picture's caption first among all held-out captions?

    python benchmarks/emoji.py [--out docs/results/emoji.json]

R@1 and R@5 of one picture a held-out family, as it is and softened; what each judge says of noise and of plain colours;
and by chance. Then what the first judge sees in what the base draws for captions of half "b", of which it was taught
nothing: R@1 among these captions, and the correlation of both judges' log-probabilities over eight pictures of each.
Intervals are 95 %, by Student's t over captions.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limner.build import assemble, drawer
from limner.core.media import Images
from limner.evaluate.statistics import mean_interval
from limner.recipes.named import recipe
from limner.report.file import write_text
from limner.worlds.emoji.fit import soften
from limner.worlds.emoji.grammar import emojis, families, pictures, prompts, to_prompt
from limner.worlds.emoji.judges import First, Second, captions, first, second, similarities


def judges() -> dict[str, First | Second]:
    """Return both by name."""
    return {"first": first(), "second": second()}


def ranks(model: First | Second, shown: Tensor) -> Tensor:
    """Return the place of each held-out caption for its picture, 1 the nearest."""
    with torch.no_grad():
        own, rest, _ = similarities(
            model, Images(shown), prompts("heldout"), captions("heldout"), model.read(captions("heldout"))
        )
    return 1 + (rest >= own[:, None]).sum(1)


@torch.no_grad()
def agreement(count: int) -> dict[str, Any]:
    """Return what both judges say of `count` pictures that the base draws for each caption of half "b"."""
    assembly = assemble(recipe("emoji"))
    asked = [to_prompt(emojis()[family[0]]) for family in families("b")]
    draw = drawer(assembly.parts, assembly.policy("reference"))
    rows, texts = torch.arange(len(asked)), [prompt.text for prompt in asked]
    logs: dict[str, list[Tensor]] = {"first": [], "second": []}
    top1 = []
    for seed in range(count):
        shown = torch.cat(
            [
                draw(some, [seed] * len(some)).frames()[:, 0]
                for some in (asked[i : i + 128] for i in rows[::128].tolist())
            ]
        )
        for name, model in judges().items():
            similarity = torch.cat([model.see(some) for some in shown.split(128)]) @ model.read(texts).T
            logs[name].append((model.log_scale.exp() * similarity).log_softmax(1)[rows, rows])
            if name == "first":
                top1.append((similarity >= similarity[rows, rows, None]).sum(1) == 1)
    within = [torch.stack(log, 1) - torch.stack(log, 1).mean(1, keepdim=True) for log in logs.values()]
    return {
        "captions": len(asked),
        "first R@1": asdict(mean_interval(torch.stack(top1, 1).double(), within=(0.0, 1.0))),
        "correlation of the judges within a caption": torch.corrcoef(torch.stack(within).flatten(1))[0, 1].item(),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/results/emoji.json"))
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    rows = [family[0] for family in families("heldout")]
    real = torch.from_numpy(pictures()[rows]).permute(0, 3, 1, 2).float() / 255
    shown = {
        "real": real,
        "softened": soften(real, rng),
        "noise": torch.from_numpy(rng.random(real.shape, dtype=np.float32)),
        "plain colours": torch.from_numpy(rng.random((len(real), 3, 1, 1), dtype=np.float32)).expand_as(real),
    }
    found: dict[str, Any] = {"captions": len(rows), "chance": 1 / len(rows), "seed": options.seed}
    for name, model in judges().items():
        found[name] = {}
        for what, drawn in shown.items():
            place = ranks(model, drawn)[:, None]
            found[name][what] = {
                f"R@{k}": asdict(mean_interval((place <= k).double(), within=(0.0, 1.0))) for k in (1, 5)
            }
    found["drawn by the base"] = agreement(8)
    text = json.dumps(found, indent=1)
    print(text)
    write_text(options.out, text + "\n")


if __name__ == "__main__":
    main()
