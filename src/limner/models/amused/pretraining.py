"""An aMUSEd pipeline that is trained from nothing, over the codes and the words of bases that stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import VQModel
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from limner.core.quiet import no_bars
from limner.core.types import Condition, Prompt
from limner.models.amused.adapter import TRAINED, Amused
from limner.models.amused.build import build, from_zero_to_one

LAYERS = 4
HIDDEN = -1
"""Stands in codes where nothing is to be seen."""


@dataclass(frozen=True, eq=False)
class AmusedPretraining:
    """A `training.pretrain_masked.FreshMasked`: the transformer learns; what encodes pictures and words stays.

        - E log p(code_i | caption, the codes that are seen),    the mean over the places i that are hidden

    Source: MaskGIT, Chang et al., arXiv:2202.04200, eq. 1; captions, aMUSEd, Patil et al., arXiv:2401.01808, section 3.
    """

    model: Amused
    vqvae: VQModel
    """The tokenizer of pictures as it was trained, which sees them in [-1, 1]."""

    @classmethod
    def build(cls, words: Path, codes: Path, width: int, seed: int) -> AmusedPretraining:
        """Return a random network `width` wide, over the text encoder of the base `words`, the codes of `codes`."""
        with no_bars():
            tokenizer = CLIPTokenizer.from_pretrained(words / "tokenizer")
            encoder = CLIPTextModelWithProjection.from_pretrained(words / "text_encoder", dtype=torch.float32)
            vqvae = VQModel.from_pretrained(codes / "vqvae", torch_dtype=torch.float32).eval()
        grid = vqvae.config.sample_size // 2 ** (len(vqvae.config.block_out_channels) - 1)
        pipeline = build(tokenizer, encoder.eval(), from_zero_to_one(vqvae), grid, width, LAYERS, seed)
        return cls(Amused.wrap(pipeline), vqvae)

    @property
    def network(self) -> nn.Module:
        """The transformer."""
        return self.model.networks[TRAINED]

    def conditions(self, texts: Sequence[str]) -> Condition:
        """Return what the transformer is given of captions, a row each, and of the empty one last."""
        return self.model.encode([Prompt(text) for text in texts])

    def loss(
        self,
        condition: Condition,
        index: Int[Tensor, " batch"],
        codes: Int[Tensor, "batch tokens"],
        hidden: Bool[Tensor, "batch tokens"],
    ) -> Float[Tensor, ""]:
        """Return the mean loss in nats a hidden code, given the captions `index` of `condition`."""
        logits = self.model.fill(codes.masked_fill(hidden, HIDDEN), condition, index)
        return functional.cross_entropy(logits[hidden], codes[hidden])

    def save(self, folder: Path) -> None:
        """Write the pipeline, its transformer and tokenizer of pictures at half precision."""
        pipeline = self.model.pipeline
        pipeline.transformer.half()
        pipeline.vqvae.half()
        with no_bars():
            pipeline.save_pretrained(folder)
