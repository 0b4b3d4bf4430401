"""Measure both judges of the emoji world on real held-out pictures: is the caption first among all held-out captions?

    python benchmarks/emoji.py [--out docs/results/emoji.json]

R@1 and R@5 of one picture a held-out family, as it is and softened; what each judge says of noise and of plain colours;
and by chance. Intervals are 95 % bootstraps over captions.
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

from limner.core.types import Images
from limner.evaluate.statistics import bootstrap
from limner.report.file import write_text
from limner.worlds.emoji.fit import soften
from limner.worlds.emoji.grammar import families, pictures, prompts
from limner.worlds.emoji.judges import First, Second, captions, first, second, similarities


def ranks(model: First | Second, shown: Tensor) -> Tensor:
    """Return the place of each held-out caption for its picture, 1 the nearest."""
    with torch.no_grad():
        own, rest, _ = similarities(
            model, Images(shown), prompts("heldout"), captions("heldout"), model.read(captions("heldout"))
        )
    return 1 + (rest >= own[:, None]).sum(1)


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
    for name, model in {"first": first(), "second": second()}.items():
        found[name] = {}
        for what, drawn in shown.items():
            place = ranks(model, drawn)[:, None]
            found[name][what] = {f"R@{k}": asdict(bootstrap((place <= k).double())) for k in (1, 5)}
    text = json.dumps(found, indent=1)
    print(text)
    write_text(options.out, text + "\n")


if __name__ == "__main__":
    main()
