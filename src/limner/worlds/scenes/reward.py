"""The checker as rewards, and the world as its users see it: prompts by name, pairs to pretrain on, the base model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from limner.core.errors import UserError
from limner.core.media import Media
from limner.core.types import Prompt, RewardOutput, RewardSpec, Vocabulary
from limner.judging.spec import declare
from limner.worlds.scenes.checker import check_batch
from limner.worlds.scenes.grammar import VOCABULARY, Scene, exchanged, is_heldout, noisy_caption, parse, sample_scene
from limner.worlds.scenes.grammar import caption as write
from limner.worlds.scenes.render import SIZE, render

BASE = Path(__file__).parent / "base"
"""The base model's folder, as diffusers lays it out."""
BASE_SD = Path(__file__).parent / "base_sd"
"""The same for the base with a UNet: a Stable Diffusion pipeline."""
BASE_TOKENS = Path(__file__).parent / "base_tokens"
"""The base of tokens: transformers' causal decoder and diffusers' VQModel."""
BASE_GAN = Path(__file__).parent / "base_gan"
"""The base of one step: a Stable Diffusion 3 pipeline that is asked once, and what it played against."""


_CLAUSE = "0 or 1; 1 where the prompt has no such clause"


@declare(
    RewardSpec(
        "scenes",
        "1 if the picture satisfies its whole prompt, else 0; exact, from the pixels alone",
        low=0.0,
        high=1.0,
        needs=("prompt",),
        components={
            "count": _CLAUSE,
            "colour": _CLAUSE,
            "shape": _CLAUSE,
            "position": _CLAUSE,
            "fraction": "0 to 1: the mean of the clauses that the prompt has",
        },
        source="the scenes world's own checker",
    )
)
def scenes(media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
    """Return 1 if the picture satisfies its whole prompt, else 0; exact, from the pixels alone.

    Components, each 0 or 1 (1 where the prompt has no such clause): count, colour, shape, position; and `fraction`, the
    mean of the clauses that the prompt has. The scene is read from `meta["scene"]`, or else from the text.
    Raises UserError for a text outside the world's grammar.
    """
    return _judged(media, prompts)


@declare(
    RewardSpec(
        "scenes_fraction",
        "the share of its prompt's clauses (count, colour, shape, position) that the picture satisfies",
        low=0.0,
        high=1.0,
        needs=("prompt",),
        source="the scenes world's own checker",
    )
)
def scenes_fraction(media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
    """Return the share of its prompt's clauses (count, colour, shape, position) that the picture satisfies."""
    output = _judged(media, prompts)
    return RewardOutput(output.components["fraction"], output.valid)


def _judged(media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
    frames = media.frames()[:, 0]
    if frames.shape[-2:] != (SIZE, SIZE):
        raise UserError(f"scenes judges pictures of {SIZE} x {SIZE} pixels, got {tuple(frames.shape[-2:])}")
    pixels = (frames.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    wanted = [Scene.from_dict(p.meta["scene"]) if "scene" in p.meta else parse(p.text) for p in prompts]
    columns = {name: torch.from_numpy(column) for name, column in check_batch(pixels, wanted).items()}
    valid = torch.ones(len(prompts), dtype=torch.bool)
    return RewardOutput(columns.pop("correct"), valid, columns)


class Scenes:
    """The world as pretraining sees it."""

    vocabulary = Vocabulary(VOCABULARY)
    pretraining: ClassVar[Mapping[str, Any]] = {}
    fps: ClassVar[float | None] = None

    def pair(self, rng: np.random.Generator, *noisy_shares: float) -> tuple[NDArray[np.uint8], list[str]]:
        """Return a picture and a caption for each share, the probability that it lacks a clause or states a wrong one.

        Never a held-out combination.
        """
        scene = sample_scene(rng)
        picture = render(scene, rng)
        return picture, [noisy_caption(scene, deepcopy(rng), share) for share in noisy_shares]

    def reordered(self, caption: str) -> list[str]:
        """Return captions of the same words that say something else: colours or things exchanged.

        Never a held-out combination.
        """
        return [write(each) for each in exchanged(parse(caption)) if not is_heldout(each)]
