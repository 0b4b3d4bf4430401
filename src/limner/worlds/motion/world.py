"""The world as pretraining sees it: clips, and captions that are wrong in a stated share."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from limner.worlds.motion.grammar import VOCABULARY, noisy_caption, sample_motion
from limner.worlds.motion.render import FPS, crowd, render

BASE = Path(__file__).parent / "base"
"""The base model's folder, as diffusers lays it out."""


class Motions:
    """The world as pretraining sees it."""

    vocabulary = VOCABULARY
    pretraining: ClassVar[Mapping[str, Any]] = {
        "model": "wan",
        "latent_channels": 8,
        "autoencoder_steps": 4500,
        "decoder_steps": 3000,
        "autoencoder_batch": 8,
        "absolute_weight": 0.0,
        "divergence_weight": 1e-4,
        "num_pairs": 24_000,
        "steps": 5_600,
        "batch": 64,
        "early_steps": 4_600,
        "optimizer": "muon",
    }

    fps: ClassVar[float | None] = FPS

    def pair(self, rng: np.random.Generator, *noisy_shares: float) -> tuple[NDArray[np.uint8], list[str]]:
        """Return a clip and a caption for each share, the probability that it claims something else.

        Never a held-out motion. Without a caption, half of the clips show two motions at once: an autoencoder sees too
        little of what is before what in those that are asked for.
        """
        motion = sample_motion(rng)
        if not noisy_shares and rng.random() < 0.5:
            return crowd([motion, sample_motion(rng)], rng).frames, []
        frames = render(motion, rng).frames
        return frames, [noisy_caption(motion, deepcopy(rng), share) for share in noisy_shares]
