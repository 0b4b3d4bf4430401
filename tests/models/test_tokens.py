"""A model of tokens: what its libraries compute is what the adapter computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import VQModel
from peft import PeftModel
from transformers import AutoTokenizer, LlamaForCausalLM

from limner.core.errors import UserError
from limner.core.media import Images
from limner.core.rng import Rng
from limner.core.types import Condition, Prompt
from limner.engine.lora import lora
from limner.engine.precision import Precision
from limner.models.tokens.adapter import Tokens
from limner.policies.tokens import TokenSampler
from limner.registry.served import kind_of

PROMPTS = [Prompt("a red star"), Prompt("red"), Prompt("red star red star")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokens")


@pytest.fixture(scope="module")
def model(folder: Path) -> Tokens:
    return Tokens.tiny(folder)


@pytest.fixture(scope="module")
def condition(model: Tokens) -> Condition:
    return model.encode(PROMPTS)


def drawn(model: Tokens, count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(model.num_codes, (count, *model.latent().shape), generator=generator)


def greedy(model: Tokens, condition: Condition, index: torch.Tensor) -> torch.Tensor:
    logits, state = model.begin(condition, index)
    tokens = [logits.argmax(-1)]
    while len(tokens) < model.latent().shape[0]:
        logits, state = model.step(tokens[-1], state)
        tokens.append(logits.argmax(-1))
    return torch.stack(tokens, 1)


@torch.no_grad()
def test_unmodified_libraries_draw_the_same_picture(folder: Path, model: Tokens, condition: Condition) -> None:
    """Greedily, from captions of three lengths at once and one by one."""
    assert kind_of(str(folder)) == "tokens"
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    decoder = LlamaForCausalLM.from_pretrained(folder / "decoder", dtype=torch.float32)
    vqvae = VQModel.from_pretrained(folder / "vqvae")
    ours = greedy(model, condition, torch.arange(3))
    asked = tokenizer([p.text for p in PROMPTS], padding=True, padding_side="left", return_tensors="pt")
    first = len(tokenizer) - vqvae.config.num_vq_embeddings
    theirs = decoder.generate(**asked, do_sample=False)[:, asked["input_ids"].shape[1] :] - first
    assert torch.equal(ours, theirs)
    for row, prompt in enumerate(PROMPTS):
        alone = decoder.generate(**tokenizer(prompt.text, return_tensors="pt"), do_sample=False)
        assert torch.equal(alone[0, -theirs.shape[1] :] - first, theirs[row])
    codes = theirs.flatten()
    pixels = vqvae.decode(
        vqvae.quantize.get_codebook_entry(codes, (3, 4, 4, vqvae.config.vq_embed_dim or vqvae.config.latent_channels)),
        force_not_quantize=True,
    ).sample
    torch.testing.assert_close(model.decode(ours).pixels, (pixels / 2 + 0.5).clamp(0, 1), atol=1e-5, rtol=0)


@torch.no_grad()
def test_steps_with_a_cache_and_one_evaluation_of_the_whole_agree(model: Tokens, condition: Condition) -> None:
    tokens, index = drawn(model, 4), torch.tensor([2, 0, 3, 1])
    whole = model.logits(tokens, condition, index)
    logits, state = model.begin(condition, index)
    rows = [logits]
    for place in range(tokens.shape[1] - 1):
        logits, state = model.step(tokens[:, place], state)
        rows.append(logits)
    assert whole.shape == (4, 16, model.num_codes) and whole.std() > 1e-3
    torch.testing.assert_close(torch.stack(rows, 1), whole, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_logit_depends_on_what_came_before_alone(model: Tokens, condition: Condition) -> None:
    tokens, index = drawn(model, 1), torch.tensor([0])
    other = tokens.clone()
    other[:, 5] = (other[:, 5] + 1) % model.num_codes
    a, b = (model.logits(each, condition, index)[0] for each in (tokens, other))
    assert torch.equal(a[:6], b[:6]) and (a[6:] - b[6:]).abs().amax(-1).min() > 0
    assert (a - model.logits(tokens, condition, torch.tensor([1]))[0]).abs().max() > 1e-4


@torch.no_grad()
def test_pictures_become_tokens_that_their_codes_are_nearest_to(model: Tokens) -> None:
    frames = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tokens = model.encode_media(Images(frames))
    latents = model.parts.vqvae.encode(2 * frames - 1).latents.permute(0, 2, 3, 1).flatten(1, 2)
    codes = model.parts.vqvae.quantize.embedding.weight
    assert torch.equal(tokens, (latents[:, :, None] - codes).square().sum(-1).argmin(-1))


def test_what_is_exported_computes_what_was_trained(tmp_path: Path, folder: Path) -> None:
    model = Tokens.load(folder)
    condition, tokens, index = model.encode(PROMPTS), drawn(model, 2), torch.tensor([0, 3])
    before = model.logits(tokens, condition, index)
    weights = lora(
        model.networks, rank=2, alpha=6, targets=model.lora_targets, seed=0, old=False, precision=Precision()
    )
    with torch.no_grad():
        for name, parameter in weights.parameters().items():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))) / 4)
        ours = model.logits(tokens, condition, index)
    assert (ours - before).abs().max() > 1e-2
    model.export_lora(tmp_path / "lora")
    model.export_full(tmp_path / "full")
    plain = LlamaForCausalLM.from_pretrained(folder / "decoder", dtype=torch.float32)
    own = LlamaForCausalLM.from_pretrained(folder / "decoder", dtype=torch.float32)
    own.load_adapter(tmp_path / "lora")
    used: dict[str, Any] = {}
    lines = model.use(repr(str(folder)), repr(str(tmp_path / "lora")), False, "a red star", {"do_sample": False})
    exec("\n".join(lines), used)
    with torch.no_grad():
        drawn_by_us = model.decode(greedy(model, condition, torch.tensor([0]))).rounded().frames()[0, 0]
    assert (torch.from_numpy(np.array(used["image"])).permute(2, 0, 1) / 255 - drawn_by_us).abs().max() <= 1 / 255
    for theirs in (
        PeftModel.from_pretrained(plain, tmp_path / "lora"),
        own,
        LlamaForCausalLM.from_pretrained(tmp_path / "full"),
    ):
        with torch.no_grad():
            found = model.with_networks({"decoder": theirs}).logits(tokens, condition, index)
        torch.testing.assert_close(found, ours, atol=1e-5, rtol=0)


@torch.no_grad()
def test_guidance_is_that_of_generate(folder: Path, model: Tokens, condition: Condition) -> None:
    used: dict[str, Any] = {}
    asked = {"do_sample": False, "guidance_scale": 3.0}
    exec("\n".join(model.use(repr(str(folder)), repr(str(folder / "decoder")), True, "a red star", asked)), used)
    sampler = TokenSampler(guidance=3.0, top_k=1)
    one = torch.zeros(1, dtype=torch.long)
    drawn = sampler.policy(model).sample(condition, one, one, one, rng=Rng((0,)), record=False).sample
    assert torch.equal(drawn, used["codes"])


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    model = Tokens.tiny(tmp_path)
    with pytest.raises(UserError, match="vqvae has out_channels 4"):
        model.parts.vqvae.register_to_config(out_channels=4)
        Tokens.wrap(model.parts)
    (tmp_path / "decoder" / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match="cut short or damaged"):
        Tokens.load(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        Tokens.load(tmp_path / "absent")
