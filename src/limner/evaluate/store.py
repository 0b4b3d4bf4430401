"""Evaluations on disk: pictures anyone can open, and what the judge said of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from limner.core.types import Prompt
from limner.evaluate.protocol import Evaluation
from limner.report.file import write_text

FILE = "rewards.json"


def save(folder: Path, evaluation: Evaluation) -> None:
    """Write FOLDER/000-0.png (prompt, seed) and so on, and, last of all, FOLDER/rewards.json."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, row in enumerate(evaluation.pictures):
        for seed, picture in zip(evaluation.seeds, row, strict=True):
            Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(folder / _name(i, seed))
    rewards = [
        {
            "prompt": prompt.text,
            "meta": dict(prompt.meta),
            "reward": [value if good else None for value, good in zip(values, valid, strict=True)],
        }
        for prompt, values, valid in zip(
            evaluation.prompts, evaluation.reward.tolist(), evaluation.valid.tolist(), strict=True
        )
    ]
    write_text(folder / FILE, json.dumps({"seeds": list(evaluation.seeds), "rewards": rewards}, indent=1) + "\n")


def load(folder: Path) -> Evaluation | None:
    """Return what `save` wrote, or None if it did not finish."""
    if not (folder / FILE).exists():
        return None
    data = json.loads((folder / FILE).read_text(encoding="utf-8"))
    seeds, rows = data["seeds"], data["rewards"]
    values = torch.tensor([[torch.nan if v is None else v for v in row["reward"]] for row in rows])
    pictures = torch.stack([_read(folder, i, seeds) for i in range(len(rows))])
    prompts = tuple(Prompt(row["prompt"], row["meta"]) for row in rows)
    return Evaluation(prompts, tuple(seeds), values, values.isfinite(), pictures)


def _read(folder: Path, prompt: int, seeds: Sequence[int]) -> torch.Tensor:
    pictures = [np.asarray(Image.open(folder / _name(prompt, seed)).convert("RGB")) for seed in seeds]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def _name(prompt: int, seed: int) -> str:
    return f"{prompt:03d}-{seed}.png"
