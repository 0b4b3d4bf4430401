"""The rewards on CLIP against transformers' own forward pass, on random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import CLIPModel, PreTrainedTokenizerFast

import tiny_vision
from limner.core.errors import UserError
from limner.core.media import Images
from limner.core.types import Prompt
from limner.rewards.vision.clip_score import ClipScore
from limner.rewards.vision.laion_aesthetic import LaionAesthetic
from limner.rewards.vision.pickscore import PickScore
from limner.rewards.vision.preprocess import Preprocess

TEXTS = ["a red cat", "a blue dog left of a cat or a dog or a cat", "a red cat"]
PROMPTS = [Prompt(text) for text in TEXTS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip")
    tiny_vision.clip(path)
    return path


def pixels() -> torch.Tensor:
    return torch.rand(3, 3, 20, 28, generator=torch.Generator().manual_seed(0))


def direct(folder: Path) -> tuple[CLIPModel, torch.Tensor, torch.Tensor]:
    """Return the model and the embeddings of its own forward pass, each text padded to the full length."""
    model, tokenizer = CLIPModel.from_pretrained(folder), PreTrainedTokenizerFast.from_pretrained(folder)
    tokens = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=8, return_tensors="pt")
    output = model(input_ids=tokens.input_ids, pixel_values=Preprocess(tiny_vision.SIZE)(pixels()))
    return model, output.image_embeds, output.text_embeds


def test_clip_score_is_the_cosine(folder: Path) -> None:
    _, pictures, texts = direct(folder)
    score = ClipScore(model=str(folder))(Images(pixels()), PROMPTS)
    torch.testing.assert_close(score, (pictures * texts).sum(1), rtol=1e-5, atol=1e-6)
    assert score.std() > 0.01


def test_pickscore_is_the_scaled_cosine(folder: Path) -> None:
    model, pictures, texts = direct(folder)
    score = PickScore(model=str(folder), tokenizer=str(folder))(Images(pixels()), PROMPTS)
    expected = model.logit_scale.exp() * (pictures * texts).sum(1) / 26
    torch.testing.assert_close(score, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_the_aesthetic_head_is_five_matrices(folder: Path, tmp_path: Path, kind: str) -> None:
    state = tiny_vision.aesthetic_head(tmp_path / "head.pth")
    if kind == "safetensors":
        from safetensors.torch import save_file

        save_file(state, tmp_path / "head.safetensors")
    _, x, _ = direct(folder)
    for place in (0, 2, 4, 6, 7):
        x = x @ state[f"layers.{place}.weight"].T + state[f"layers.{place}.bias"]
    score = LaionAesthetic(head=str(tmp_path / f"head.{kind}"), model=str(folder))(Images(pixels()), PROMPTS)
    torch.testing.assert_close(score, x[:, 0], rtol=1e-4, atol=1e-5)


def test_frames_are_averaged(folder: Path) -> None:
    class Clip:
        def frames(self) -> torch.Tensor:
            return pixels()[None]

    reward = ClipScore(model=str(folder))
    single = reward(Images(pixels()), PROMPTS[:1] * 3)
    torch.testing.assert_close(reward(Clip(), PROMPTS[:1]), single.mean(0, keepdim=True), rtol=1e-5, atol=1e-6)


def test_the_gradient_is_that_of_differences(folder: Path) -> None:
    """Against central differences along itself, in float32."""
    reward, source = ClipScore(model=str(folder)), pixels().mul(0.8).add(0.1).requires_grad_()
    (gradient,) = torch.autograd.grad(reward(Images(source), PROMPTS).sum(), source)
    step = 1e-3 * gradient / gradient.norm()
    with torch.no_grad():
        change = reward(Images(source + step), PROMPTS).sum() - reward(Images(source - step), PROMPTS).sum()
    assert gradient.norm().item() == pytest.approx(change.item() / 2e-3, rel=0.02)


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    media = Images(pixels())
    with pytest.raises(UserError, match="clip_score: cannot load CLIPModel from .*nowhere"):
        ClipScore(model=str(tmp_path / "nowhere"))(media, PROMPTS)
    with pytest.raises(UserError, match="laion_aesthetic: give head, the file"):
        LaionAesthetic(model=str(folder))(media, PROMPTS)
    with pytest.raises(UserError, match="laion_aesthetic: cannot read weights from .*nowhere.pth"):
        LaionAesthetic(head=str(tmp_path / "nowhere.pth"), model=str(folder))(media, PROMPTS)
    state = tiny_vision.aesthetic_head(tmp_path / "head.pth", width=11)
    with pytest.raises(UserError, match="laion_aesthetic: the weights in .*head.pth' do not fit"):
        LaionAesthetic(head=str(tmp_path / "head.pth"), model=str(folder))(media, PROMPTS)
    torch.save({"module": torch.nn.Linear(2, 2), **state}, tmp_path / "code.pth")
    with pytest.raises(UserError, match="laion_aesthetic: cannot read weights from .*code.pth"):
        LaionAesthetic(head=str(tmp_path / "code.pth"), model=str(folder))(media, PROMPTS)


@tiny_vision.needs_weights("clip-vit-base-patch32", "000000039769.jpg")
def test_the_two_cats_of_the_model_card() -> None:
    """logits_per_image of transformers' documentation: 24.5701 and 19.3049 (scale 100)."""
    with Image.open(tiny_vision.WEIGHTS / "000000039769.jpg") as file:
        array = torch.frombuffer(bytearray(file.convert("RGB").tobytes()), dtype=torch.uint8)
        media = Images(array.reshape(1, file.height, file.width, 3).permute(0, 3, 1, 2).expand(2, -1, -1, -1) / 255)
    texts = [Prompt("a photo of a cat"), Prompt("a photo of a dog")]
    score = ClipScore(model=str(tiny_vision.WEIGHTS / "clip-vit-base-patch32"))(media, texts)
    assert (score * 100).tolist() == pytest.approx([24.5701, 19.3049], abs=0.05)
