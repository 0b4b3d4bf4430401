"""The ordinary loss of a causal decoder over words and codes that is trained from nothing."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, VQModel
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from transformers import LlamaForCausalLM

from limner.core.errors import UserError
from limner.core.types import Vocabulary
from limner.models.tokens.adapter import Tokens
from limner.models.tokens.build import TokenParts, TokensSize, build, quantised
from limner.models.tokens.folder import write_parts


@dataclass(frozen=True, eq=False)
class TokensPretraining:
    """A `training.pretrain_tokens.FreshTokens`: a tokenizer of pictures, and a decoder that learns by likelihood.

        -log p(codes | caption) = - sum_i log p(code_i | caption, code_1 .. code_(i-1))

    Source: LlamaGen, Sun et al., arXiv:2406.06525, section 2.2; the caption stands before the picture as words do.
    """

    parts: TokenParts
    begun: Path | None = None
    """The base whose parts they are, where they are not new: its tokenizer has learned what it shall."""

    @classmethod
    def build(cls, vocabulary: Vocabulary, start: Path, num_codes: int, seed: int) -> TokensPretraining:
        """Return parts of the bundled base's size; the tokenizer begins as the autoencoder of the pipeline `start`.

        A base of tokens is gone on with: its tokenizer and its decoder. Raises UserError if it has other codes.
        """
        if (start / "decoder").is_dir():
            parts = Tokens.load(start).parts
            if (found := parts.vqvae.config.num_vq_embeddings) != num_codes:
                raise UserError(f"--num_codes {num_codes}: {start} has {found} codes; give --num_codes {found}")
            return cls(parts, start)
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

    def nats(self, texts: Sequence[str], codes: Int[Tensor, "batch tokens"]) -> Float[Tensor, " batch"]:
        """Return -log p(codes | caption) of each; captions and pictures stand at the left, so no mask is needed."""
        tokenizer, decoder, _ = self.parts
        words = [torch.tensor(ids) for ids in tokenizer(list(texts))["input_ids"]]
        first = decoder.config.vocab_size - self.vqvae.config.num_vq_embeddings
        rows = [torch.cat([ids, picture[:-1] + first]) for ids, picture in zip(words, codes, strict=True)]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id)
        states = decoder.model(input_ids=padded, use_cache=False).last_hidden_state
        before = torch.tensor([len(ids) - 1 for ids in words])[:, None] + torch.arange(codes.shape[1])
        states = states.gather(1, before[:, :, None].expand(-1, -1, states.shape[-1]))
        logits = functional.linear(states, decoder.lm_head.weight[first:])
        each = functional.cross_entropy(logits.flatten(0, 1), codes.flatten(), reduction="none")
        return each.view(codes.shape).sum(1)

    def save(self, folder: Path) -> None:
        """Write the parts at half precision, as their libraries load them, and how what was begun with was made."""
        self.decoder.half()
        self.vqvae.half()
        write_parts(folder, self.parts)
        if self.begun is not None:
            (folder / "begun").mkdir(exist_ok=True)
            for path in (self.begun / "config.yaml", self.begun / "log.jsonl"):
                if path.exists():
                    shutil.copy(path, folder / "begun")
