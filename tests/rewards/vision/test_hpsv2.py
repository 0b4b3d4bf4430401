"""HPSv2: open_clip's layout, computed here block by block, against what the converted model says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, gelu, layer_norm, multi_head_attention_forward, normalize
from transformers import CLIPModel, PreTrainedTokenizerFast

import tiny_vision
from limner.core.errors import UserError
from limner.core.media import Images
from limner.core.types import Prompt
from limner.rewards.vision.hpsv2 import HPSv2, to_transformers
from limner.rewards.vision.preprocess import Preprocess

TEXTS = ["a red cat", "a blue dog left of"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hps")
    config = tiny_vision.clip_config("gelu")
    config.save_pretrained(path)
    tiny_vision.tokenizer(path)
    state = tiny_vision.open_clip_state(config)
    torch.save({"state_dict": state, "epoch": 3}, path / "hps.pt")
    return path


def norm(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    return layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])


def blocks(x: Tensor, state: dict[str, Tensor], tower: str, mask: Tensor | None) -> Tensor:
    """Return a batch `[batch, tokens, width]` after open_clip's residual blocks of two heads."""
    for layer in range(2):
        name = f"{tower}transformer.resblocks.{layer}"
        y = norm(x, state, f"{name}.ln_1").transpose(0, 1)
        y, _ = multi_head_attention_forward(
            y, y, y, y.shape[-1], 2, state[f"{name}.attn.in_proj_weight"], state[f"{name}.attn.in_proj_bias"],
            None, None, False, 0.0, state[f"{name}.attn.out_proj.weight"], state[f"{name}.attn.out_proj.bias"],
            training=False, attn_mask=mask, need_weights=False,
        )  # fmt: skip
        x = x + y.transpose(0, 1)
        y = norm(x, state, f"{name}.ln_2")
        y = gelu(y @ state[f"{name}.mlp.c_fc.weight"].T + state[f"{name}.mlp.c_fc.bias"])
        x = x + y @ state[f"{name}.mlp.c_proj.weight"].T + state[f"{name}.mlp.c_proj.bias"]
    return x


def open_clip(state: dict[str, Tensor], pictures: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return open_clip's picture and text features of length 1, from its own names."""
    x = conv2d(pictures, state["visual.conv1.weight"], stride=4).flatten(2).transpose(1, 2)
    x = torch.cat([state["visual.class_embedding"].expand(len(x), 1, -1), x], 1) + state["visual.positional_embedding"]
    x = blocks(norm(x, state, "visual.ln_pre"), state, "visual.", None)
    seen = norm(x[:, 0], state, "visual.ln_post") @ state["visual.proj"]
    x = state["token_embedding.weight"][ids] + state["positional_embedding"][: ids.shape[1]]
    x = blocks(x, state, "", torch.full((ids.shape[1],) * 2, -torch.inf).triu(1))
    read = norm(x, state, "ln_final")[torch.arange(len(ids)), ids.argmax(1)] @ state["text_projection"]
    return normalize(seen, dim=-1), normalize(read, dim=-1)


def test_the_converted_model_is_open_clips(folder: Path) -> None:
    state = torch.load(folder / "hps.pt", weights_only=True)["state_dict"]
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    ids = tokenizer(TEXTS, padding="max_length", max_length=8, return_tensors="pt").input_ids
    pixels = torch.rand(2, 3, 24, 18, generator=torch.Generator().manual_seed(0))
    seen, read = open_clip(state, Preprocess(tiny_vision.SIZE, fit="pad")(pixels), ids)
    expected = (seen * read).sum(1)
    reward = HPSv2(weights=str(folder / "hps.pt"), base=str(folder))
    score = reward(Images(pixels), [Prompt(text) for text in TEXTS])
    torch.testing.assert_close(score, expected, rtol=1e-4, atol=1e-5)
    assert (expected[0] - expected[1]).abs() > 1e-3


def test_every_weight_has_its_place_and_none_is_lost(folder: Path) -> None:
    """There and back: what transformers' model holds after loading gives open_clip's weights again."""
    state = tiny_vision.open_clip_state(tiny_vision.clip_config("gelu"), seed=5)
    converted = to_transformers({**state, "attn_mask": torch.zeros(8, 8)})
    model = CLIPModel(tiny_vision.clip_config("gelu"))
    model.load_state_dict(converted)
    held = model.state_dict()
    layer = "text_model.encoder.layers.1.self_attn"
    joined = torch.cat([held[f"{layer}.{part}_proj.weight"] for part in "qkv"])
    assert torch.equal(joined, state["transformer.resblocks.1.attn.in_proj_weight"])
    assert torch.equal(held["visual_projection.weight"].T, state["visual.proj"])
    assert torch.equal(held["text_model.embeddings.position_embedding.weight"], state["positional_embedding"])
    assert sum(value.numel() for value in converted.values()) == sum(value.numel() for value in state.values())


def test_weights_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="hpsv2: give weights, the file HPS_v2.1_compressed.pt"):
        HPSv2(base=str(folder))(Images(torch.rand(1, 3, 8, 8)), [Prompt("a")])
    state = tiny_vision.open_clip_state(tiny_vision.clip_config("gelu"))
    del state["visual.proj"]
    torch.save({"state_dict": state}, tmp_path / "part.pt")
    with pytest.raises(UserError, match="do not fit: .*visual_projection.weight"):
        HPSv2(weights=str(tmp_path / "part.pt"), base=str(folder))(Images(torch.rand(1, 3, 8, 8)), [Prompt("a")])
