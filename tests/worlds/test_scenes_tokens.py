"""The base of tokens that ships: plain transformers and diffusers load it, and write what our own sampler writes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import yaml
from diffusers import VQModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from limner.core.rng import Rng
from limner.core.types import Prompt
from limner.models.tokens.adapter import Tokens
from limner.policies.tokens import TokenSampler
from limner.worlds.scenes.reward import BASE_TOKENS

TEXTS = ["two red stars", "a blue circle left of a green square"]


@pytest.fixture(scope="module")
def decoder() -> Any:
    """As a user of transformers loads it."""
    return AutoModelForCausalLM.from_pretrained(BASE_TOKENS / "decoder", dtype=torch.float32)


def test_it_is_small_and_was_made_by_the_command_beside_it() -> None:
    assert sum(f.stat().st_size for f in BASE_TOKENS.rglob("*") if f.is_file()) <= 10 * 10**6
    config = yaml.safe_load((BASE_TOKENS / "config.yaml").read_text())
    assert config["model"] == "tokens" and (BASE_TOKENS / "log.jsonl").stat().st_size > 0


def test_the_likeliest_codes_are_those_of_plain_generate(decoder: Any) -> None:
    tokenizer = AutoTokenizer.from_pretrained(BASE_TOKENS / "tokenizer")
    model = Tokens.load(BASE_TOKENS)
    policy = TokenSampler(top_k=1).policy(model)
    for text in TEXTS:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        theirs = decoder.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False)[:, ids.shape[1] :]
        one, first = torch.zeros(1, dtype=torch.long), torch.tensor([0])
        ours = policy.sample(model.encode([Prompt(text)]), first, one, one, rng=Rng((0,)), record=False).sample
        assert torch.equal(ours, theirs - model.first_code), text


def test_codes_become_pixels_by_plain_diffusers() -> None:
    vqvae = VQModel.from_pretrained(BASE_TOKENS / "vqvae", torch_dtype=torch.float32)
    model = Tokens.load(BASE_TOKENS)
    codes = torch.randint(0, model.num_codes, (2, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        quantised = vqvae.quantize.get_codebook_entry(codes.flatten(), (2, 8, 8, vqvae.quantize.vq_embed_dim))
        theirs = vqvae.decode(quantised, force_not_quantize=True).sample / 2 + 0.5
        ours = model.decode(codes).frames()[:, 0]
    torch.testing.assert_close(ours, theirs.clamp(0, 1), atol=1e-4, rtol=0)
