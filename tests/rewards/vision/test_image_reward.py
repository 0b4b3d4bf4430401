"""ImageReward: the authors' layout of BLIP, computed here block by block, against the converted model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import conv2d, gelu, layer_norm, scaled_dot_product_attention
from transformers import PreTrainedTokenizerFast

import tiny_vision
from limner.core.errors import UserError
from limner.core.media import Images
from limner.core.types import Prompt
from limner.rewards.vision.image_reward import ImageReward, to_transformers
from limner.rewards.vision.preprocess import Preprocess

PROMPTS = [Prompt("a red cat"), Prompt("a blue dog left of a cat")]
EYE, READ = tiny_vision.EYE, tiny_vision.READ


def heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (2, -1)).transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    return scaled_dot_product_attention(heads(q), heads(k), heads(v), mask).transpose(1, 2).flatten(2)


def authors(state: dict[str, Tensor], pictures: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    def linear(x: Tensor, name: str) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(x: Tensor, name: str, eps: float) -> Tensor:
        return layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)

    patch = f"{EYE}.patch_embed.proj"
    x = conv2d(pictures, state[f"{patch}.weight"], state[f"{patch}.bias"], stride=4).flatten(2).transpose(1, 2)
    x = torch.cat([state[f"{EYE}.cls_token"].expand(len(x), -1, -1), x], 1) + state[f"{EYE}.pos_embed"]
    for layer in range(2):
        name = f"{EYE}.blocks.{layer}"
        x = x + linear(
            attend(*linear(norm(x, f"{name}.norm1", 1e-6), f"{name}.attn.qkv").chunk(3, -1)), f"{name}.attn.proj"
        )
        x = x + linear(gelu(linear(norm(x, f"{name}.norm2", 1e-6), f"{name}.mlp.fc1")), f"{name}.mlp.fc2")
    seen = norm(x, f"{EYE}.norm", 1e-6)
    place = state[f"{READ}.embeddings.position_embeddings.weight"][: ids.shape[1]]
    y = norm(state[f"{READ}.embeddings.word_embeddings.weight"][ids] + place, f"{READ}.embeddings.LayerNorm", 1e-12)
    for layer in range(2):
        name = f"{READ}.encoder.layer.{layer}"
        for kind, source, seeable in (("attention", None, mask[:, None, None].bool()), ("crossattention", seen, None)):
            q, k, v = (
                linear(y if part == "query" or source is None else source, f"{name}.{kind}.self.{part}")
                for part in ("query", "key", "value")
            )
            out = linear(attend(q, k, v, seeable), f"{name}.{kind}.output.dense")
            y = norm(out + y, f"{name}.{kind}.output.LayerNorm", 1e-12)
        out = linear(gelu(linear(y, f"{name}.intermediate.dense")), f"{name}.output.dense")
        y = norm(out + y, f"{name}.output.LayerNorm", 1e-12)
    z = y[:, 0]
    for layer in (0, 2, 4, 6, 7):
        z = linear(z, f"mlp.layers.{layer}")
    return (z[:, 0] - 0.16717362830052426) / 1.0333394966054072


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("blip")
    tiny_vision.blip_config(path)
    extra = {f"{READ}.embeddings.position_ids": torch.arange(40)[None], "blip.temp": torch.ones(())}
    torch.save(tiny_vision.image_reward_state() | extra, path / "ImageReward.pt")
    return path


def test_the_converted_model_is_the_authors(folder: Path) -> None:
    pixels = torch.rand(2, 3, 20, 26, generator=torch.Generator().manual_seed(1))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokens = tokenizer([p.text for p in PROMPTS], padding="max_length", max_length=35, return_tensors="pt")
    expected = authors(
        tiny_vision.image_reward_state(), Preprocess(16)(pixels), tokens.input_ids, tokens.attention_mask
    )
    score = ImageReward(weights=str(folder / "ImageReward.pt"), base=str(folder))(Images(pixels), PROMPTS)
    torch.testing.assert_close(score, expected, rtol=1e-4, atol=1e-5)
    assert (expected[0] - expected[1]).abs() > 1e-3


def test_frames_are_averaged_and_the_gradient_reaches_them(folder: Path) -> None:
    pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(2), requires_grad=True)

    class Clip:
        def frames(self) -> torch.Tensor:
            return pixels[None]

    reward = ImageReward(weights=str(folder / "ImageReward.pt"), base=str(folder))
    score = reward(Clip(), PROMPTS[:1])
    single = reward(Images(pixels), PROMPTS[:1] * 2)
    torch.testing.assert_close(score, single.mean(0, keepdim=True), rtol=1e-4, atol=1e-5)
    score.sum().backward()
    assert pixels.grad is not None and (pixels.grad != 0).float().mean() > 0.9


def test_only_what_the_score_uses_is_kept() -> None:
    names = to_transformers(dict.fromkeys(["blip.text_decoder.x", "blip.temp", "blip.image_queue"], torch.ones(1)))
    assert not names
    with pytest.raises(UserError, match="image_reward: give weights, the file ImageReward.pt"):
        ImageReward()(Images(torch.rand(1, 3, 16, 16)), PROMPTS[:1])


@tiny_vision.needs_weights("ImageReward.pt", "blip-itm-large-coco", *(f"{i}.webp" for i in range(1, 5)))
def test_the_four_pictures_of_the_authors_page() -> None:
    text = "a painting of an ocean with clouds and birds, day time, low depth field effect"
    folder, found = tiny_vision.WEIGHTS, []
    reward = ImageReward(weights=str(folder / "ImageReward.pt"), base=str(folder / "blip-itm-large-coco"))
    for i in range(1, 5):
        with Image.open(folder / f"{i}.webp") as file:
            array = torch.frombuffer(bytearray(file.convert("RGB").tobytes()), dtype=torch.uint8)
            media = Images(array.reshape(1, file.height, file.width, 3).permute(0, 3, 1, 2) / 255)
        found.append(reward(media, [Prompt(text)]).item())
    assert found == pytest.approx([0.5812, 0.2745, -1.4132, -2.0296], abs=0.05)
