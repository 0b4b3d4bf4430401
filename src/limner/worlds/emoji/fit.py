"""Train a judge of the emoji world, each on its half of the pictures.

python -m limner.worlds.emoji.fit first --steps 300 --seed 0
python -m limner.worlds.emoji.fit second --steps 450 --seed 0
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from limner.worlds.emoji.features import picture_features, text_features
from limner.worlds.emoji.grammar import Part, emojis, families, noisy_caption, pictures
from limner.worlds.emoji.judges import FOLDER, First, Second, captions
from limner.worlds.emoji.world import moved

BATCH = {"first": 256, "second": 128}
"""Families of one step."""
VIEWS = 3
"""Times that the frozen network sees each picture of the first judge's half, moved and softened anew."""


def soften(pixels: Float[Tensor, "n 3 64 64"], rng: np.random.Generator) -> Float[Tensor, "n 3 64 64"]:
    """Lower the resolution of half of the pictures (to 24 to 64 pixels), add noise (std to 0.04), vary the lightness.

    So they come nearer to what a small generator draws.
    """
    edge = int(rng.integers(24, 65))
    small = functional.interpolate(pixels[::2], size=(edge, edge), mode="bilinear", antialias=True)
    softened = pixels.clone()
    softened[::2] = functional.interpolate(small, size=pixels.shape[-2:], mode="bilinear")
    gain = torch.from_numpy(rng.uniform(0.9, 1.1, (len(pixels), 3, 1, 1))).float()
    std = torch.from_numpy(rng.uniform(0.0, 0.04, (len(pixels), 1, 1, 1))).float()
    noise = torch.from_numpy(rng.standard_normal(pixels.shape, dtype=np.float32))
    return (softened * gain + std * noise).clamp(0, 1)


def views(rows: list[int], rng: np.random.Generator) -> Float[Tensor, "n 3 64 64"]:
    """Return the pictures of these rows, moved and softened anew."""
    drawn = np.stack([moved(pictures()[row], rng) for row in rows])
    return soften(torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 255, rng)


def draw(part: Part, rng: np.random.Generator, size: int) -> list[int]:
    """Draw rows of so many different families of a part."""
    chosen = families(part)
    return [chosen[i][int(rng.integers(len(chosen[i])))] for i in rng.permutation(len(chosen))[:size]]


def contrast(pair: tuple[Tensor, Tensor], log_scale: Tensor) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of finding each picture's text among the batch's, and each text's picture."""
    logits = log_scale.exp() * pair[0] @ pair[1].T
    own = torch.arange(len(logits))
    return functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)


def train(name: str, steps: int, seed: int, log: Path) -> nn.Module:
    """Return a trained judge; write a line of its log every 50 steps."""
    torch.manual_seed(seed)
    rng, start = np.random.default_rng(seed), time.process_time()
    model: First | Second = First() if name == "first" else Second()
    lr, decay = (2e-3, 1.0) if name == "first" else (3e-3, 0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps, pct_start=0.1)
    bank = remember(model, rng) if isinstance(model, First) else None
    model.train()
    lines = []
    for step in range(steps):
        rows = draw("a" if name == "first" else "b", rng, BATCH[name])
        if isinstance(model, First):
            assert bank is not None
            view = int(rng.integers(VIEWS))
            found = model.heads(bank[0][rows, view], bank[1][rows, view])
        else:
            found = model.see(views(rows, rng)), model.read([noisy_caption(row, rng, 0.0) for row in rows])
        loss = contrast(found, model.log_scale)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            lines.append({"step": step, "loss": loss.item(), "cpu_seconds": round(time.process_time() - start, 1)})
            print(lines[-1], flush=True)
    log.write_text("".join(json.dumps(line) + "\n" for line in [{"steps": steps, "seed": seed}, *lines]))
    model.eval()
    if isinstance(model, First):
        with torch.no_grad():
            model.gallery.copy_(model.read(captions("train")))
    return model


@torch.no_grad()
def remember(model: First, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return features of `VIEWS` views and captions of each picture of half "a"; set their mean and spread."""
    rows = [row for family in families("a") for row in family]
    seen, read = torch.zeros(len(emojis()), VIEWS, 1280), torch.zeros(len(emojis()), VIEWS, 384)
    for view in range(VIEWS):
        for start in range(0, len(rows), 64):
            some = rows[start : start + 64]
            seen[some, view] = picture_features(views(some, rng))
        read[rows, view] = text_features([noisy_caption(row, rng, 0.0) for row in rows])
    model.mean.copy_(seen[rows].mean((0, 1)))
    model.std.copy_(seen[rows].flatten(0, 1).std(0) + 0.05)
    return seen, read


def main() -> None:
    """Train one judge, and write its weights at half precision and its log."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("first", "second"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=FOLDER)
    options = parser.parse_args()
    model = train(options.name, options.steps, options.seed, options.out / f"{options.name}.jsonl")
    state = {n: t.half().contiguous() if t.is_floating_point() else t for n, t in model.state_dict().items()}
    save_file(state, options.out / f"{options.name}.safetensors")


if __name__ == "__main__":
    main()
