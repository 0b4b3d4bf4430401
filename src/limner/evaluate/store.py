"""Evaluations on disk: samples anyone can open, and what the judge said of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from limner.core.errors import UserError
from limner.core.media import Media, to_image
from limner.core.paths import whole
from limner.core.types import Prompt
from limner.evaluate.protocol import Evaluation, Keep
from limner.report.file import write_text

FILE = "rewards.json"
STILL = ".png"


def keeper(folder: Path) -> Keep:
    """Return what writes FOLDER/000-0.webp (prompt, seed) and so on as samples are drawn, whatever their files are.

    A sample whose file is a PNG is left to `save`: it is a picture, and its still is all there is of it.
    """

    def keep(cells: Sequence[tuple[int, int]], media: Media) -> None:
        suffix = media.suffixes[0]
        if suffix != STILL:
            folder.mkdir(parents=True, exist_ok=True)
            media.save([folder / _name(prompt, seed, suffix) for prompt, seed in cells])

    return keep


def save(folder: Path, evaluation: Evaluation) -> None:
    """Write a still of each sample, FOLDER/000-0.png and so on, and, last of all, FOLDER/rewards.json.

    Each file is whole or absent, and rewards.json is absent while stills are written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).unlink(missing_ok=True)
    for i, row in enumerate(evaluation.stills):
        for seed, still in zip(evaluation.seeds, row, strict=True):
            with whole(folder / _name(i, seed)) as part:
                to_image(still).save(part, format="PNG")
    rewards = [
        {
            "prompt": prompt.text,
            "meta": dict(prompt.meta),
            **({"inputs": dict(prompt.inputs)} if prompt.inputs else {}),
            "reward": [value if good else None for value, good in zip(values, valid, strict=True)],
        }
        for prompt, values, valid in zip(
            evaluation.prompts, evaluation.reward.tolist(), evaluation.valid.tolist(), strict=True
        )
    ]
    write_text(folder / FILE, json.dumps({"seeds": list(evaluation.seeds), "rewards": rewards}, indent=1) + "\n")


def known(folder: Path, prompts: Sequence[Prompt], say: Callable[[str], None]) -> Evaluation | None:
    """Return what an earlier session measured, unless that was of other prompts, or cannot be read, which is said."""
    try:
        found = load(folder)
    except UserError as error:
        say(str(error))
        return None
    return found if found is not None and list(found.prompts) == list(prompts) else None


def load(folder: Path) -> Evaluation | None:
    """Return what `save` wrote, and where the files of `keeper` are, or None if it did not finish.

    Raises UserError if the files are damaged.
    """
    if not (folder / FILE).exists():
        return None
    try:
        return _load(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SyntaxError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{folder} cannot be read ({reason}); limner train {folder.parents[1] / 'config.yaml'} --resume measures "
            "it again"
        ) from error


def _load(folder: Path) -> Evaluation:
    data = json.loads((folder / FILE).read_text(encoding="utf-8"))
    seeds, rows = data["seeds"], data["rewards"]
    rewards = [[torch.nan if value is None else value for value in row["reward"]] for row in rows]
    values = torch.tensor(rewards, dtype=torch.float64)
    stills = torch.stack([_read(folder, i, seeds) for i in range(len(rows))])
    prompts = tuple(Prompt(row["prompt"], row["meta"], row.get("inputs", {})) for row in rows)
    whole = {path.stem: path for path in folder.iterdir() if path.suffix not in (STILL, ".json", ".part")}
    cells = {(i, j): whole.get(_name(i, seed, "")) for i in range(len(rows)) for j, seed in enumerate(seeds)}
    files = {cell: path for cell, path in cells.items() if path is not None}
    return Evaluation(prompts, tuple(seeds), values, values.isfinite(), stills, files)


def _read(folder: Path, prompt: int, seeds: Sequence[int]) -> torch.Tensor:
    pictures = [np.asarray(Image.open(folder / _name(prompt, seed)).convert("RGB")) for seed in seeds]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def _name(prompt: int, seed: int, suffix: str = STILL) -> str:
    return f"{prompt:03d}-{seed}{suffix}"
