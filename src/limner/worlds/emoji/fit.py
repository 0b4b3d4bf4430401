"""Train a judge of the emoji world, each on its half of the pictures.

python benchmarks/emoji_redraw.py --out runs/redrawn.safetensors
python -m limner.worlds.emoji.fit first --steps 300 --seed 0 --redrawn runs/redrawn.safetensors
python -m limner.worlds.emoji.fit second --steps 450 --seed 0
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from limner.judging.efficientnet import picture_features
from limner.judging.minilm import text_features
from limner.worlds.emoji.grammar import FOLDER, Part, families, noisy_caption, pictures
from limner.worlds.emoji.judges import First, Second, captions
from limner.worlds.emoji.world import moved

BATCH = {"first": 256, "second": 128}
"""Families of one step."""
LOT = 64
"""Pictures that the frozen network sees at once."""
VIEWS = 4
"""Times that the frozen network sees each picture of the first judge's half, moved and softened anew."""
REDRAWN_SHARE = 0.5
"""Share of the first judge's pictures that a generator drew once more: it is to judge what a generator leaves."""


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


def drawn(rows: list[int], rng: np.random.Generator) -> Float[Tensor, "n 3 64 64"]:
    """Return the pictures of these rows, moved anew."""
    return torch.from_numpy(np.stack([moved(pictures()[row], rng) for row in rows])).permute(0, 3, 1, 2).float() / 255


def chosen(part: Part, rng: np.random.Generator, size: int) -> list[int]:
    """Draw rows of so many different families of a part."""
    among = families(part)
    return [among[i][int(rng.integers(len(among[i])))] for i in rng.permutation(len(among))[:size]]


def contrast(pair: tuple[Tensor, Tensor], log_scale: Tensor) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of finding each picture's text among the batch's, and each text's picture."""
    logits = log_scale.exp() * pair[0] @ pair[1].T
    own = torch.arange(len(logits))
    return functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)


def train_first(steps: int, seed: int, redrawn: Path, log: Path) -> First:
    """Return the first judge, trained on features of half "a" as it is, softened, and redrawn."""
    torch.manual_seed(seed)
    rng, model = np.random.default_rng(seed), First()
    bank = Bank.of(redrawn, rng)
    seen = torch.cat([bank.real, bank.redrawn], 1).flatten(0, 1)
    model.mean.copy_(seen.mean(0))
    model.std.copy_(seen.std(0) + 0.05)

    def pair() -> tuple[Tensor, Tensor]:
        return model.heads(*bank.draw(chosen("a", rng, BATCH["first"]), rng))

    descend(model, pair, steps, 2e-3, 1.0, log)
    with torch.no_grad():
        model.gallery.copy_(model.read(captions("train")))
    return model


def train_second(steps: int, seed: int, log: Path) -> Second:
    """Return the second judge, trained on pictures of half "b" and all that is in their captions."""
    torch.manual_seed(seed)
    rng, model = np.random.default_rng(seed), Second()

    def pair() -> tuple[Tensor, Tensor]:
        rows = chosen("b", rng, BATCH["second"])
        return model.see(soften(drawn(rows, rng), rng)), model.read([noisy_caption(row, rng, 0.0) for row in rows])

    descend(model, pair, steps, 3e-3, 0.1, log)
    return model


def descend(
    model: First | Second, pair: Callable[[], tuple[Tensor, Tensor]], steps: int, lr: float, decay: float, log: Path
) -> None:
    """Fit a judge to pairs of vectors by contrast; write a line of its log every 50 steps."""
    start = time.process_time()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps, pct_start=0.1)
    model.train()
    lines: list[dict[str, float]] = [{"steps": steps, "seed": torch.initial_seed()}]
    for step in range(steps):
        loss = contrast(pair(), model.log_scale)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            lines.append({"step": step, "loss": loss.item(), "cpu_seconds": round(time.process_time() - start, 1)})
            print(lines[-1], flush=True)
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    model.eval()


@dataclass(frozen=True)
class Bank:
    """Features of half "a": `VIEWS` softened views of each picture, those of its redrawn ones, and of its captions."""

    place: dict[int, int]
    real: Float[Tensor, "rows views width"]
    redrawn: Float[Tensor, "rows others width"]
    texts: Float[Tensor, "rows views textwidth"]

    @classmethod
    @torch.no_grad()
    def of(cls, redrawn: Path, rng: np.random.Generator) -> Bank:
        """Look at all pictures and read all captions once, so that the frozen networks need not run again."""
        stored = load_file(redrawn)
        rows = stored["rows"].tolist()
        lots = [rows[start : start + LOT] for start in range(0, len(rows), LOT)]
        real = [torch.cat([picture_features(soften(drawn(lot, rng), rng)) for lot in lots]) for _ in range(VIEWS)]
        again = [
            torch.cat([picture_features(lot.float() / 255) for lot in view.split(LOT)])
            for view in stored["views"].unbind(1)
        ]
        texts = [text_features([noisy_caption(row, rng, 0.0) for row in rows]) for _ in range(VIEWS)]
        return cls({row: i for i, row in enumerate(rows)}, *(torch.stack(f, 1) for f in (real, again, texts)))

    def draw(self, rows: list[int], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return features of a picture and of a caption of each row, `REDRAWN_SHARE` of the pictures redrawn."""
        at = [self.place[row] for row in rows]
        views = self.real[at, rng.integers(self.real.shape[1], size=len(rows))]
        again = self.redrawn[at, rng.integers(self.redrawn.shape[1], size=len(rows))]
        use = torch.from_numpy(rng.random(len(rows)) < REDRAWN_SHARE)
        return torch.where(use[:, None], again, views), self.texts[at, rng.integers(VIEWS, size=len(rows))]


def main() -> None:
    """Train one judge, and write its weights at half precision and its log."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("first", "second"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--redrawn", type=Path, help="the first judge's: what benchmarks/emoji_redraw.py wrote")
    parser.add_argument("--out", type=Path, default=FOLDER)
    options = parser.parse_args()
    log = options.out / f"{options.name}.jsonl"
    if options.name == "second":
        model: First | Second = train_second(options.steps, options.seed, log)
    elif options.redrawn is None:
        parser.error("the first judge needs --redrawn FILE: python benchmarks/emoji_redraw.py --out FILE")
    else:
        model = train_first(options.steps, options.seed, options.redrawn, log)
    state = {n: t.half().contiguous() if t.is_floating_point() else t for n, t in model.state_dict().items()}
    save_file(state, options.out / f"{options.name}.safetensors")


if __name__ == "__main__":
    main()
