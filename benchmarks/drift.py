"""How clips drift that are drawn in parts: each part goes on from the last frames of the one before.

    python benchmarks/drift.py RUN [--parts 4] [--overlap FRAMES] [--seeds 4] [--out docs/results/drift.json]

RUN is a run of `limner train motion`. Held-out prompts of a thing that stays still, and of those that move, x seeds.
Each part is judged by itself, with the frames that it shares with the one before: is there one thing of the wanted
colour and shape throughout (`identity`, `count`, by the exact checker), how far are the colours of what stands out from
those of the very first frame, and what is the warp error, within the part and over the seam. Means with 95 % intervals,
by Student's t over prompts; a part of which nothing can be judged counts as wrong.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from limner.continuation import sample_parts
from limner.core.media import Videos
from limner.core.types import Prompt
from limner.evaluate.statistics import mean_interval
from limner.judges import compose
from limner.report.file import write_text
from limner.run import Run, open_run
from limner.worlds.motion.grammar import prompts
from limner.worlds.motion.render import FRAMES

KINDS = ("still", "direction", "speed")
TERMS = {"one thing": "motion.identity", "alone": "motion.count", "warp error": "1 - video_warp"}
COLOURS, SEAM = "colours off the first frame's", "warp error over the seam"


def main() -> None:
    """Draw, judge, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--parts", type=int, default=4)
    parser.add_argument("--overlap", type=int)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    text = json.dumps(drift(open_run(options.run), options.parts, options.overlap, options.seeds), indent=1) + "\n"
    print(text)
    if options.out:
        write_text(options.out, text)


def drift(run: Run, parts: int, overlap: int | None, seeds: int) -> dict[str, Any]:
    """Return what is measured of each part, by kind of prompt."""
    found: dict[str, Any] = {}
    for kind in KINDS:
        asked = list({prompt.text: prompt for prompt in prompts("heldout") if prompt.category == kind}.values())
        rows = [_parts(run, prompt, parts, overlap, seeds) for prompt in asked]
        found[kind] = {"prompts": len(asked)} | {
            f"part {k + 1}": {name: _interval([row[k][name] for row in rows]) for name in rows[0][k]}
            for k in range(parts)
        }
    return {"seeds": seeds, "overlap": overlap} | found


def _parts(run: Run, prompt: Prompt, parts: int, overlap: int | None, seeds: int) -> list[dict[str, torch.Tensor]]:
    """Return of each part the terms' values, one a seed."""
    clips = sample_parts(run, prompt, parts, overlap, seeds).media
    assert isinstance(clips, Videos)
    values = clips.values
    stride = (values.shape[1] - FRAMES) // max(parts - 1, 1)
    found = []
    for start in range(0, parts * stride, stride):
        part = values[:, start : start + FRAMES]
        told = {name: _judged(text, replace(clips, values=part), prompt) for name, text in TERMS.items()}
        led = replace(clips, values=torch.cat([values[:, :1], part], 1))
        told[COLOURS] = 1 - _judged("video_consistency", led, prompt)
        if start:
            seam = start + FRAMES - stride
            told[SEAM] = _judged("1 - video_warp", replace(clips, values=values[:, seam - 1 : seam + 1]), prompt)
        found.append(told)
    return found


def _judged(text: str, clips: Videos, prompt: Prompt) -> torch.Tensor:
    output = compose(text)(clips, [prompt] * len(clips))
    return output.score.double().masked_fill(~output.valid, 0.0 if text.startswith("motion") else 1.0)


def _interval(rows: list[torch.Tensor]) -> list[float]:
    """Return the mean over prompts, and half the width of its interval."""
    interval = mean_interval(torch.stack(rows))
    return [round(interval.value, 4), round((interval.high - interval.low) / 2, 4)]


if __name__ == "__main__":
    main()
