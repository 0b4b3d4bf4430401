"""rapidocr's engine: the lines of text in a picture, and where they are."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
MAX_READERS = 8
"""Engines at most, of some 30 MB each."""


@dataclass(frozen=True)
class Line:
    """A line of text, and its box: the corners x, y in pixels, in order around it."""

    text: str
    corners: Float[np.ndarray, "4 2"]


def read_all(pictures: Sequence[Picture]) -> list[list[Line]]:
    """Return the lines of each picture, read by as many engines at once as torch has threads. Raises JudgeFailure.

    Pictures side by side, each on one core: the steps of reading a small one are too short to be divided.
    """
    return list(_readers(min(torch.get_num_threads(), MAX_READERS)).map(read_lines, pictures))


def read_lines(picture: Picture) -> list[Line]:
    """Return every line of text in an RGB picture, in reading order. Raises JudgeFailure."""
    engine = _engine(threading.get_ident())
    try:
        found = engine(np.ascontiguousarray(picture[:, :, ::-1]))
    except Exception as error:
        raise JudgeFailure(f"ocr: the engine failed: {type(error).__name__}: {error}") from error
    if not found.txts:
        return []
    return [Line(text, corners) for text, corners in zip(found.txts, found.boxes, strict=True)]


@functools.lru_cache(maxsize=1)
def _readers(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "ocr")


@functools.lru_cache(maxsize=2 * MAX_READERS)
def _engine(thread: int) -> Callable[[Picture], Any]:
    """Return a thread's engine for BGR pictures: rapidocr's own models, silent, lines taken to stand upright.

    A line at a time: in a batch the widest line would pad, and so change, the others.
    """
    from rapidocr import RapidOCR

    found = {"Det.limit_type": "max", "Det.limit_side_len": DETECTOR_SIDE, "Global.use_cls": False}
    read = {"Rec.rec_img_shape": LINE, "Rec.rec_batch_num": 1, "Global.text_score": 0.0}
    process = {"EngineConfig.onnxruntime.intra_op_num_threads": 1, "Global.log_level": "critical"}
    engine: Callable[[Picture], Any] = RapidOCR(params=found | read | process)
    return engine
