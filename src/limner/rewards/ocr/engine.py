"""rapidocr's engine: the lines of text in a picture, and where they are."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from limner.core.errors import JudgeFailure

Picture = UInt8[np.ndarray, "height width 3"]
DETECTOR_SIDE = 640
"""Text is looked for in the picture, shrunk to so many pixels a side if it is larger, and read at full resolution."""
LINE = [3, 48, 160]
"""A line of text is read at 48 pixels' height, padded to 160 pixels' width if it is shorter."""


@dataclass(frozen=True)
class Line:
    """A line of text, and its box: the corners x, y in pixels, in order around it."""

    text: str
    corners: Float[np.ndarray, "4 2"]


def read_lines(picture: Picture) -> list[Line]:
    """Return every line of text in an RGB picture, in reading order. Raises JudgeFailure."""
    engine = _engine(torch.get_num_threads())
    try:
        found = engine(np.ascontiguousarray(picture[:, :, ::-1]))
    except Exception as error:
        raise JudgeFailure(f"ocr: the engine failed: {type(error).__name__}: {error}") from error
    if not found.txts:
        return []
    return [Line(text, corners) for text, corners in zip(found.txts, found.boxes, strict=True)]


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
