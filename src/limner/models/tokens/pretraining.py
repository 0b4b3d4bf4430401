"""The ordinary loss of a causal decoder over words and codes that is trained from nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, VQModel
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from transformers import LlamaForCausalLM

from limner.core.types import Vocabulary
from limner.models.tokens.build import TokenParts, TokensSize, build, quantised
from limner.models.tokens.folder import write_parts


@dataclass(frozen=True, eq=False)
class TokensPretraining:
    """A `training.pretrain_tokens.FreshTokens`: a tokenizer of pictures, and a decoder that learns by likelihood.

        - 1/T sum_i log p(code_i | caption, code_1 .. code_(i-1))

    Source: LlamaGen, Sun et al., arXiv:2406.06525, section 2.2; the caption stands before the picture as words do.
    """

    parts: TokenParts

    @classmethod
    def build(cls, vocabulary: Vocabulary, start: Path, num_codes: int, seed: int) -> TokensPretraining:
        """Return parts of the bundled base's size; the tokenizer begins as the autoencoder of the pipeline `start`."""
        autoencoder = AutoencoderKL.from_pretrained(start, subfolder="vae", torch_dtype=torch.float32)
        return cls(build(TokensSize(vocabulary), quantised(autoencoder, num_codes), seed))

    @property
    def vqvae(self) -> VQModel:
        """The tokenizer of pictures."""
        return self.parts.vqvae

    @property
    def decoder(self) -> LlamaForCausalLM:
        """The causal decoder."""
        return self.parts.decoder

    def loss(self, texts: Sequence[str], codes: Int[Tensor, "batch tokens"]) -> Float[Tensor, ""]:
        """Return the mean loss in nats a code; captions and pictures stand at the left, so no mask is needed."""
        tokenizer, decoder, _ = self.parts
        words = [torch.tensor(ids) for ids in tokenizer(list(texts))["input_ids"]]
        first = decoder.config.vocab_size - self.vqvae.config.num_vq_embeddings
        rows = [torch.cat([ids, picture[:-1] + first]) for ids, picture in zip(words, codes, strict=True)]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id)
        states = decoder.model(input_ids=padded, use_cache=False).last_hidden_state
        before = torch.tensor([len(ids) - 1 for ids in words])[:, None] + torch.arange(codes.shape[1])
        states = states.gather(1, before[:, :, None].expand(-1, -1, states.shape[-1]))
        logits = functional.linear(states, decoder.lm_head.weight[first:])
        return functional.cross_entropy(logits.flatten(0, 1), codes.flatten())

    def save(self, folder: Path) -> None:
        """Write the parts at half precision, as their libraries load them."""
        self.decoder.half()
        self.vqvae.half()
        write_parts(folder, self.parts)
