"""A source as another package would bring it: pictures of which a person preferred one, from a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from limner.core.media import Images
from limner.core.types import Prompt
from limner.data.pairs import read_picture
from limner.training.source import given


@dataclass(frozen=True)
class Pairs:
    """`path`: a .jsonl file with prompt, chosen and rejected, two picture files; a pair is a group, worth 1 and 0."""

    path: str = ""
    side: int = 32
    draws = False

    def scored(self, studio, step, count, rng, phase, memory=None):
        lines = [json.loads(line) for line in Path(self.path).read_text(encoding="utf-8").splitlines()]
        chosen = torch.randint(len(lines), (count,), generator=rng.child("rows").generator()).tolist()
        pairs = [lines[chosen[i]] for i in studio.team.share(count)]
        files = [line[key] for line in pairs for key in ("chosen", "rejected")]
        pictures = torch.stack([read_picture(Path(file), self.side, self.side) for file in files])
        prompts = [Prompt(line["prompt"]) for line in pairs for _ in range(2)]
        group = torch.tensor(studio.team.share(count)).repeat_interleave(2)
        id, worth = 2 * group + torch.arange(2).repeat(len(pairs)), torch.tensor([1.0, 0.0]).repeat(len(pairs))
        return given(studio, prompts, studio.encode(Images(pictures)), worth, group, id, step)
