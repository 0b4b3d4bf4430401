"""What the tests of the SD3 adapter share: an adapter beside the plain pipeline of the same folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
from torch import Tensor

from limner.core.types import Prompt
from limner.models.sd3.adapter import SD3

WORDS = tuple("a one two three four red green blue star stars square squares circle circles left of above".split())
TEXTS = ["a red star", "two blue squares left of a green circle"]


@dataclass(frozen=True)
class Case:
    """An adapter, the same folder as plain diffusers loads it, and the folder."""

    adapter: SD3
    plain: StableDiffusion3Pipeline
    folder: Path

    @property
    def length(self) -> int | None:
        return self.adapter.settings.max_sequence_length


def noise(adapter: SD3, count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, *adapter.latent().shape, generator=torch.Generator().manual_seed(seed))


def velocity(adapter: SD3, seed: int = 0) -> Tensor:
    """Return one prediction with which two transformers can be compared."""
    condition = adapter.encode([Prompt(text) for text in TEXTS])
    with torch.no_grad():
        return adapter.predict(noise(adapter, 3, seed), torch.tensor([0.2, 0.5, 1]), condition, torch.tensor([0, 1, 2]))


def call(case: Case, **kwargs: Any) -> Tensor:
    """Return what the unmodified pipeline draws."""
    kwargs |= {
        "latents": noise(case.adapter, 2),
        "max_sequence_length": case.length,
    }
    return case.plain(TEXTS, guidance_scale=1.0, output_type="pt", **kwargs).images


def tiny_copy(case: Case) -> SD3Transformer2DModel:
    return SD3Transformer2DModel.from_pretrained(case.folder / "transformer")
