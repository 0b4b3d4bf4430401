"""Pictures on the way: what the present weights draw of some prompts at fixed seeds, judged by nobody."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import torch
from PIL import Image

from limner.core.media import Media
from limner.core.settings import Count, Natural, Range, settings
from limner.core.types import Prompt
from limner.report.gallery import grid

PLACE = Path("samples") / "snapshots"
"""Where in a run folder they are."""


@settings
class Snapshots:
    """Show what some prompts become, always the same at the same seeds, by the plain sampler: no judge is asked."""

    every: Natural = 0
    """Iterations from one to the next; the first is of the base; 0: none."""
    prompts: Count = 4
    """How many prompts, spread over the held-out ones, or over those of training where there are none."""
    seeds: Annotated[int, Range(least=1, most=100)] = 1
    """Samples of each."""

    def sheets(self, iterations: int) -> int:
        """Return how many sheets a run of so many iterations draws, the base's first."""
        return 1 + iterations // self.every if self.every else 0

    def cells(self, prompts: int) -> int:
        """Return how many samples are on a sheet, where there are so many prompts to choose from."""
        return min(self.prompts, prompts) * self.seeds


def sheet(
    how: Snapshots, draw: Callable[[Sequence[Prompt], Sequence[int]], Media], prompts: Sequence[Prompt], batch: int
) -> Image.Image:
    """Return the samples on a sheet, each above its prompt; `draw` is given `batch` of them at a time."""
    count = min(how.prompts, len(prompts))
    chosen = [prompts[i * len(prompts) // count] for i in range(count)]
    cells = [(prompt, seed) for prompt in chosen for seed in range(how.seeds)]
    parts = [list(zip(*cells[i : i + batch], strict=True)) for i in range(0, len(cells), batch)]
    stills = torch.cat([draw(asked, seeds).rounded().stills() for asked, seeds in parts])
    return grid(stills, [prompt.text for prompt, _ in cells], columns=min(len(cells), 4))


def keep(folder: Path, iteration: int, taken: Image.Image) -> None:
    """Write a sheet into a run folder, as that of so many iterations; a file is whole or absent."""
    place = folder / PLACE / f"{iteration:06d}.png"
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_suffix(".part")
    taken.save(part, format="PNG")
    os.replace(part, place)
