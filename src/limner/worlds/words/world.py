"""The world as pretraining sees it: pictures of words, and captions that are wrong in a stated share."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from limner.worlds.words.grammar import VOCABULARY, noisy_caption, sample_word
from limner.worlds.words.render import render

BASE = Path(__file__).parent / "base"
"""The base model's folder, as diffusers lays it out."""


class Words:
    """The world as pretraining sees it. Its judge is the reward `ocr`, which reads the pictures."""

    vocabulary = VOCABULARY
    pretraining: ClassVar[Mapping[str, Any]] = {}
    fps: ClassVar[float | None] = None

    def pair(self, rng: np.random.Generator, *noisy_shares: float) -> tuple[NDArray[np.uint8], list[str]]:
        """Return a picture and a caption for each share, the probability that it asks for something else.

        Never a held-out word, drawn or asked for.
        """
        word = sample_word(rng)
        picture = render(word, rng)
        return picture, [noisy_caption(word, deepcopy(rng), share) for share in noisy_shares]
