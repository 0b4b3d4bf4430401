"""The OCR reward: how well what the engine reads is what the prompt wants."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from limner.core.errors import UserError, nearest
from limner.core.media import Media
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.judging.spec import coarse
from limner.rewards.ocr.engine import Line, read_all
from limner.rewards.ocr.spelling import compare, normalised, wanted_text

Metric = Literal["similarity", "exact"]
MOST_LETTERS = 1000
"""Letters and digits that are compared with what is read, at most: the work grows with their number."""
_COMPONENTS = {
    "exact": "1 if the read text is the wanted one, else 0",
    "recall": "longest common subsequence / wanted length, 0 to 1",
    "precision": "longest common subsequence / read length, 0 to 1; 0 if nothing was read",
    "read_length": "letters and digits read, 0 or more",
}


@dataclass(frozen=True)
class OCR:
    """Return how well the text that an OCR engine reads is the wanted one, 0 to 1.

        similarity = 1 - Levenshtein(read, wanted) / max(len(read), len(wanted));    exact = [read = wanted]

    The wanted text is `meta["text"]`, or else all that the prompt has in quotation marks, in order (`wanted_text`). The
    read text is every line that is found, however unsure the engine is, in reading order. Of both only letters and
    digits count, in upper case and in Unicode's plain forms (NFKC). `similarity` is never above `recall` or
    `precision`: to write the word twice, or other text beside it, does not pay. Several frames are averaged.

    A prompt that wants no letter or digit, and a picture that is not finite, are invalid. `explanation` is what was
    read, and the map `text` says where it stands. As many pictures are read at once as torch has threads. Raises
    UserError, when constructed, for an unknown metric or if rapidocr or onnxruntime is missing; JudgeFailure if the
    engine fails.

    Source: Flow-GRPO, arXiv:2505.05470: max(0, 1 - distance / len(wanted)). Deviations: the longer text divides, and a
    text that merely contains the wanted one is no match.
    """

    metric: Metric = "similarity"

    def __post_init__(self) -> None:
        if self.metric not in get_args(Metric):
            raise UserError(f"reward ocr: unknown metric {self.metric!r}{nearest(self.metric, get_args(Metric))}")
        if any(importlib.util.find_spec(name) is None for name in ("rapidocr", "onnxruntime")):
            raise UserError("reward ocr needs rapidocr and onnxruntime: pip install 'limner[ocr]'")

    @property
    def spec(self) -> RewardSpec:
        """What it says of itself. Its models ship inside rapidocr, whose version is therefore part of its own."""
        return RewardSpec(
            "ocr",
            "how well the text in the picture is the one that the prompt quotes",
            low=0.0,
            high=1.0,
            needs=("prompt",),
            components=_COMPONENTS,
            maps={
                "text": "2 precision - 1 of each line alone, in its box: -1 nothing of it is wanted, 1 all; 0: no text"
            },
            version=f"2+rapidocr{importlib.metadata.version('rapidocr')}",
            source="PP-OCR models of rapidocr; score after Flow-GRPO, arXiv:2505.05470",
            weights_licence="Apache-2.0",
        )

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        frames = media.frames().detach().float().cpu()
        finite = frames.isfinite().flatten(1).all(1)
        pictures = (frames.nan_to_num().clamp(0, 1) * 255).round().byte().permute(0, 1, 3, 4, 2).numpy()
        wanted = [wanted_text(prompt) for prompt in prompts]
        if (longest := max(map(len, wanted), default=0)) > MOST_LETTERS:
            raise UserError(
                f"ocr: a prompt wants {longest} letters and digits, of which a picture holds {MOST_LETTERS}"
            )
        valid = finite & torch.tensor([text != "" for text in wanted])
        columns = {name: torch.full(valid.shape, torch.nan) for name in ("similarity", *_COMPONENTS)}
        said: list[str | None] = [None] * len(prompts)
        places = [_places([], "", frames.shape[-2:])] * len(prompts)
        rows = valid.nonzero().flatten().tolist()
        lines_of = iter(read_all([picture for row in rows for picture in pictures[row]]))
        for row in rows:
            read = list(itertools.islice(lines_of, frames.shape[1]))
            texts = [" ".join(line.text for line in lines) for lines in read]
            marks = [compare(normalised(text), wanted[row]) for text in texts]
            said[row] = " | ".join(texts)
            places[row] = torch.stack([_places(lines, wanted[row], frames.shape[-2:]) for lines in read]).mean(0)
            for name, column in columns.items():
                column[row] = sum(mark[name] for mark in marks) / len(marks)
        parts = {name: columns[name] for name in _COMPONENTS}
        return RewardOutput(columns[self.metric], valid, parts, explanation=said, maps={"text": torch.stack(places)})


def _places(lines: Sequence[Line], wanted: str, shape: Sequence[int]) -> Float[Tensor, "rows columns"]:
    """Return 2 precision - 1 of each line in its box, 0 elsewhere, coarse; where boxes overlap, the later line's."""
    canvas = Image.new("F", (shape[1], shape[0]))
    for line in lines:
        if letters := normalised(line.text):
            corners = [(float(x), float(y)) for x, y in line.corners]
            ImageDraw.Draw(canvas).polygon(corners, fill=2 * compare(letters, wanted)["precision"] - 1)
    return coarse(torch.from_numpy(np.array(canvas))[None])[0]
