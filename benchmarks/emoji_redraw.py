"""Let the emoji base redraw the pictures of half "a", so that the first judge learns from what a generator leaves.

    python benchmarks/emoji_redraw.py [--views 4] [--seed 0] [--out runs/redrawn.safetensors]

Each picture is noised to a time drawn from [.5, .95] and denoised under one of its captions (SDEdit, Meng et al.,
arXiv:2108.01073): much of it stays, so that it is still what its caption says, and its strokes are the base's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from safetensors.torch import save_file
from torch import Tensor

from limner.core.media import Images
from limner.core.types import Prompt
from limner.models.sd3.adapter import SD3
from limner.models.sd3.settings import SD3Settings
from limner.worlds.emoji.fit import drawn
from limner.worlds.emoji.grammar import families, noisy_caption
from limner.worlds.emoji.world import BASE

TIMES = (0.5, 0.95)
STEPS = 8
BATCH = 128


def main() -> None:
    """Redraw, and write the pictures as bytes beside their rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/redrawn.safetensors"))
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    model = SD3.load(BASE, SD3Settings(max_sequence_length=0))
    rows = [row for family in families("a") for row in family]
    views = [
        torch.cat([redrawn(model, rows[start : start + BATCH], rng) for start in range(0, len(rows), BATCH)])
        for _ in range(options.views)
    ]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({"rows": torch.tensor(rows), "views": torch.stack(views, 1)}, options.out)
    print(f"{len(rows)} pictures, {options.views} times each: {options.out}")


@torch.no_grad()
def redrawn(model: SD3, rows: list[int], rng: np.random.Generator) -> UInt8[Tensor, "n 3 64 64"]:
    """Return the pictures of these rows as bytes: noised, each to a time of its own, and denoised in `STEPS` steps."""
    latents = model.encode_media(Images(drawn(rows, rng)))
    condition = model.encode([Prompt(noisy_caption(row, rng, 0.0)) for row in rows])
    noise = torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32))
    start = torch.from_numpy(rng.uniform(*TIMES, len(rows))).float()
    x = torch.lerp(latents, noise, start[:, None, None, None])
    for step in range(STEPS):
        velocity = model.predict(x, start * (1 - step / STEPS), condition, torch.arange(len(rows)))
        x = x - (start / STEPS)[:, None, None, None] * velocity
    return model.decode(x).frames()[:, 0].mul(255).round().to(torch.uint8).contiguous()


if __name__ == "__main__":
    main()
