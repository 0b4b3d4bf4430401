"""The base models that ship: unmodified diffusers loads them, and draws what our own code draws."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diffusers import StableDiffusion3Pipeline
from safetensors import safe_open

from limner.build import load_prompts
from limner.core.media import Images
from limner.core.types import Vocabulary
from limner.diffusion.dynamics import EulerODE
from limner.models.sd3.adapter import SD3
from limner.models.sd3.settings import SD3Settings
from limner.registry.find import find
from limner.registry.names import BASES, WORLDS
from limner.rewards.ocr import OCR
from limner.worlds.scenes.grammar import sample_scene, to_prompt
from limner.worlds.scenes.render import render
from limner.worlds.scenes.reward import scenes
from limner.worlds.words.grammar import to_prompt as to_word_prompt
from limner.worlds.words.grammar import words
from limner.worlds.words.render import render as render_word
from walk import walk


@dataclass(frozen=True)
class Base:
    """A world's base; `lengths` has prompts and their number of tokens, begin and end included."""

    name: str
    lengths: dict[str, int]

    @property
    def folder(self) -> Path:
        folder: Path = find(BASES, "base", self.name)
        return folder

    def plain(self) -> StableDiffusion3Pipeline:
        """As a user of diffusers loads it: no dtype is named."""
        return StableDiffusion3Pipeline.from_pretrained(self.folder, text_encoder_3=None, tokenizer_3=None)


ALL = (
    Base("scenes", {"two red stars": 5, "a blue circle left of a green square": 10}),
    Base("words", {'a sign that says "KITE"': 12, 'the word "OWL"': 9}),
    Base("emoji", {"hot dog, food prepared": 7, "tiger, animal mammal": 6}),
)


@pytest.fixture(scope="module", params=ALL, ids=lambda base: base.name)
def base(request: pytest.FixtureRequest) -> Base:
    found: Base = request.param
    return found


@pytest.fixture(scope="module")
def plain(base: Base) -> StableDiffusion3Pipeline:
    return base.plain()


def dtypes(file: Path) -> set[str]:
    with safe_open(file, framework="pt") as weights:
        return {weights.get_slice(key).get_dtype() for key in weights.keys()}  # noqa: SIM118


def test_it_is_small_and_stored_as_the_libraries_expect(base: Base, plain: StableDiffusion3Pipeline) -> None:
    assert sum(f.stat().st_size for f in base.folder.rglob("*") if f.is_file()) <= 10 * 10**6
    assert plain.transformer.num_parameters() <= 4_000_000
    assert (plain.transformer.config.sample_size // plain.transformer.config.patch_size) ** 2 == 16
    for part, kind in {"transformer": "F16", "vae": "F16", "text_encoder": "F32", "text_encoder_2": "F32"}.items():
        (file,) = (base.folder / part).glob("*.safetensors")
        assert dtypes(file) == {kind}
    for part in (plain.transformer, plain.vae, plain.text_encoder, plain.text_encoder_2):
        assert {p.dtype for p in part.parameters()} == {torch.float32}


def test_its_tokenizer_knows_every_word(base: Base, plain: StableDiffusion3Pipeline) -> None:
    tokenizer = plain.tokenizer
    known: Vocabulary = find(WORLDS, "world", base.name).vocabulary
    assert 12 <= tokenizer.model_max_length <= 24 and tokenizer.eos_token_id != 2
    for text, length in base.lengths.items():
        assert len(tokenizer(text)["input_ids"]) == length
    for prompt in load_prompts(f"{base.name}:heldout"):
        ids = tokenizer(prompt.text)["input_ids"]
        assert len(ids) <= known.max_length and tokenizer.unk_token_id not in ids[1:-1]


def test_its_imperfection_has_a_stated_cause(base: Base) -> None:
    config = yaml.safe_load((base.folder / "config.yaml").read_text())
    assert 0 < config["noisy_share"] < 1 and config["dropped_share"] == pytest.approx(0.1)
    assert (base.folder / "log.jsonl").stat().st_size > 0


def test_our_sampler_draws_the_pictures_of_the_plain_pipeline(base: Base, plain: StableDiffusion3Pipeline) -> None:
    plain.set_progress_bar_config(disable=True)
    texts = list(base.lengths)
    noise = torch.randn(2, plain.transformer.config.in_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    theirs = plain(
        texts, latents=noise, num_inference_steps=20, guidance_scale=1.0, max_sequence_length=0, output_type="pt"
    ).images
    ours = walk(SD3.load(base.folder, SD3Settings(max_sequence_length=0)), EulerODE(), 20, texts, noise)
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)


def test_the_checker_accepts_what_the_autoencoder_of_scenes_restores() -> None:
    plain = ALL[0].plain()
    rng = np.random.default_rng(0)
    drawn = [sample_scene(rng) for _ in range(200)]
    pixels = torch.from_numpy(np.stack([render(scene, rng) for scene in drawn])).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        restored = plain.vae.decode(plain.vae.encode(pixels).latent_dist.mean).sample
    images = Images((restored / 2 + 0.5).clamp(0, 1)).rounded()
    assert scenes(images, [to_prompt(scene) for scene in drawn]).score.mean() >= 0.98


def test_the_engine_reads_what_the_autoencoder_of_words_restores() -> None:
    """97 % are asked over many (benchmarks/words.py); of 200, four standard deviations less."""
    pytest.importorskip("rapidocr", reason="the extra `ocr` is not installed")
    model, rng = SD3.load(ALL[1].folder, SD3Settings(max_sequence_length=0)), np.random.default_rng(0)
    asked = [to_word_prompt(word) for word in words("heldout")[:100] + words("train")[:100]]
    pictures = np.stack([render_word(str(prompt.meta["text"]), rng) for prompt in asked])
    with torch.no_grad():
        restored = model.decode(model.encode_media(Images(torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255)))
    assert OCR(metric="exact")(restored, asked).score.mean() >= 0.97 - 4 * (0.97 * 0.03 / 200) ** 0.5
