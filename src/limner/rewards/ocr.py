"""OCR: does the picture say what the prompt puts in quotation marks, and nothing else?"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import UInt8

from limner.core.errors import JudgeFailure, UserError, nearest
from limner.core.reward import RewardSpec
from limner.core.types import Media, Prompt, RewardOutput

Metric = Literal["similarity", "exact"]
Picture = UInt8[np.ndarray, "height width 3"]
DETECTOR_SIDE = 640
"""Text is looked for in the picture, shrunk to so many pixels a side if it is larger, and read at full resolution."""
LINE = [3, 48, 160]
"""A line of text is read at 48 pixels' height, padded to 160 pixels' width if it is shorter."""
_QUOTED = re.compile(r'["“”]([^"“”]*)["“”]')
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

    The wanted text is `meta["text"]`, or else all that the prompt has in double quotation marks, in order. The read
    text is every line that is found, however unsure the engine is, in reading order. Of both only letters and digits
    count, in upper case and in Unicode's plain forms (NFKC). `similarity` is never above `recall` or `precision`: to
    write the word twice, or other text beside it, does not pay. Several frames are averaged.

    A prompt that wants no letter or digit, and a picture that is not finite, are invalid. `explanation` is what was
    read. The engine uses as many threads as torch. Raises UserError, when constructed, for an unknown metric or if
    rapidocr or onnxruntime is missing; JudgeFailure if the engine fails.

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
            version=f"1+rapidocr{importlib.metadata.version('rapidocr')}",
            source="PP-OCR models of rapidocr; score after Flow-GRPO, arXiv:2505.05470",
            weights_licence="Apache-2.0",
        )

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        frames = media.frames().detach().float().cpu()
        finite = frames.isfinite().flatten(1).all(1)
        pictures = (frames.nan_to_num().clamp(0, 1) * 255).round().byte().permute(0, 1, 3, 4, 2).numpy()
        wanted = [wanted_text(prompt) for prompt in prompts]
        valid = finite & torch.tensor([text != "" for text in wanted])
        columns = {name: torch.full(valid.shape, torch.nan) for name in ("similarity", *_COMPONENTS)}
        said: list[str | None] = [None] * len(prompts)
        for row in valid.nonzero().flatten().tolist():
            read = [read_text(picture) for picture in pictures[row]]
            marks = [compare(normalised(text), wanted[row]) for text in read]
            said[row] = " | ".join(read)
            for name, column in columns.items():
                column[row] = sum(mark[name] for mark in marks) / len(marks)
        return RewardOutput(columns[self.metric], valid, {n: columns[n] for n in _COMPONENTS}, explanation=said)


def wanted_text(prompt: Prompt) -> str:
    """Return the letters and digits that a prompt wants written; none if it does not say."""
    return normalised(str(prompt.meta["text"]) if "text" in prompt.meta else "".join(_QUOTED.findall(prompt.text)))


def normalised(text: str) -> str:
    """Return the letters and digits of a text, in upper case and Unicode's plain forms (NFKC)."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).upper()))


def compare(read: str, wanted: str) -> dict[str, float]:
    """Return the similarity and the components of one normalised reading; `wanted` is not empty."""
    # A substitution that costs as much as to leave one letter out and put one in leaves len + len - 2 common letters.
    common = (len(read) + len(wanted) - edit_distance(read, wanted, substitution=2)) / 2
    return {
        "similarity": 1.0 - edit_distance(read, wanted) / max(len(read), len(wanted)),
        "exact": float(read == wanted),
        "recall": common / len(wanted),
        "precision": common / len(read) if read else 0.0,
        "read_length": float(len(read)),
    }


def edit_distance(a: str, b: str, substitution: int = 1) -> int:
    """Return the least cost of turning one text into the other; to insert or leave out a letter costs 1."""
    row = list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        above, row = row, [i]
        for j, other in enumerate(b, 1):
            row.append(min(above[j - 1] + substitution * (letter != other), above[j] + 1, row[-1] + 1))
    return row[-1]


def read_text(picture: Picture) -> str:
    """Return every line of text in an RGB picture, in reading order, a space between. Raises JudgeFailure."""
    engine = _engine(torch.get_num_threads())
    try:
        return " ".join(engine(np.ascontiguousarray(picture[:, :, ::-1])).txts or ())
    except Exception as error:
        raise JudgeFailure(f"ocr: the engine failed: {type(error).__name__}: {error}") from error


@functools.lru_cache(maxsize=1)
def _engine(threads: int) -> Callable[[Picture], Any]:
    """Return rapidocr's engine for BGR pictures: its own models from its wheel, silent, lines taken to stand upright.

    A line at a time: in a batch the widest line would pad, and so change, the others.
    """
    from rapidocr import RapidOCR

    found = {"Det.limit_type": "max", "Det.limit_side_len": DETECTOR_SIDE, "Global.use_cls": False}
    read = {"Rec.rec_img_shape": LINE, "Rec.rec_batch_num": 1, "Global.text_score": 0.0}
    process = {"EngineConfig.onnxruntime.intra_op_num_threads": threads, "Global.log_level": "critical"}
    engine: Callable[[Picture], Any] = RapidOCR(params=found | read | process)
    return engine
