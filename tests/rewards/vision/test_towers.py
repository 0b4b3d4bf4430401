"""Frozen networks of one's own under a learned head: CLIP, SigLIP and DINOv2, on tiny random weights."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize
from transformers import AutoTokenizer, SiglipImageProcessorPil

import tiny_vision
from limner.core.errors import UserError
from limner.core.media import Images
from limner.core.types import Prompt
from limner.judging.minilm import text_features
from limner.reward_models import train_reward
from limner.rewards.learned.design import Design
from limner.rewards.learned.folder import read, read_card
from limner.rewards.learned.origin import EFFICIENTNET, MINILM, origin
from limner.rewards.learned.reward import Learned
from limner.rewards.learned.towers import towers
from limner.rewards.vision.preprocess import CLIP, IMAGENET, Preprocess
from run.test_reward_models import SMALL, collection

TEXTS = ["a red cat", "a dog left of a blue cat"]
PIXELS = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def tokens(folder: Path, padding: bool | str) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer(TEXTS, padding=padding, truncation=True, max_length=8, return_tensors="pt")


def test_clip_is_transformers_own(tmp_path: Path) -> None:
    model = tiny_vision.clip(tmp_path)
    found = towers(str(tmp_path))
    inputs = AutoTokenizer.from_pretrained(tmp_path)(
        TEXTS, padding=True, truncation=True, max_length=8, return_tensors="pt"
    )
    seen = model.get_image_features(Preprocess(16, CLIP)(PIXELS)).pooler_output
    read = model.get_text_features(**inputs).pooler_output
    for ours, theirs in ((found.see(PIXELS), seen), (found.read(TEXTS), read)):
        torch.testing.assert_close(ours, 12**0.5 * normalize(theirs, dim=-1), rtol=1e-4, atol=1e-4)
    assert (found.picture_width, found.text_width) == (12, 12)


def test_siglip_is_transformers_own_with_its_processor(tmp_path: Path) -> None:
    """Pictures are squashed to a square; texts are filled up to their full length."""
    model = tiny_vision.siglip(tmp_path)
    found = towers(str(tmp_path))
    levels = (torch.rand(24, 40, 3, generator=torch.Generator().manual_seed(1)) * 255).byte()
    processor = SiglipImageProcessorPil(size={"height": 16, "width": 16})
    shown = processor(Image.fromarray(np.asarray(levels)), return_tensors="pt").pixel_values
    seen = model.get_image_features(shown).pooler_output
    ours = found.see(levels.permute(2, 0, 1)[None] / 255)
    torch.testing.assert_close(ours, 4 * normalize(seen, dim=-1), rtol=0.05, atol=0.05)
    read = model.get_text_features(tokens(tmp_path, padding="max_length").input_ids).pooler_output
    torch.testing.assert_close(found.read(TEXTS), 4 * normalize(read, dim=-1), rtol=1e-4, atol=1e-4)


def test_dino_gives_its_class_token_and_minilm_reads(tmp_path: Path) -> None:
    model = tiny_vision.dino(tmp_path)
    found = towers(str(tmp_path))
    seen = model(pixel_values=Preprocess(16, IMAGENET, resize=18)(PIXELS)).last_hidden_state[:, 0]
    torch.testing.assert_close(found.see(PIXELS), seen)
    assert found.read(TEXTS).equal(text_features(TEXTS)) and found.picture_width == 16


@pytest.mark.parametrize("kind", ["frozen", "linear"])
def test_a_head_on_a_folder_learns_and_is_read_again(kind: str, tmp_path: Path) -> None:
    """A CLIP of random weights tells bright from dark; only the head is kept, and gradients reach the pixels.

    The card has the hash of the CLIP's files: another text beside them is none of its business, another weight is.
    """
    tiny_vision.clip(tmp_path / "clip")
    how = {
        **SMALL,
        "design.kind": kind,
        "design.network": str(tmp_path / "clip"),
        "design.members": 1,
        "epochs": 20,
    }
    place = train_reward(str(collection(tmp_path / "votes", 40, float)), tmp_path / "r", how)
    card = read_card(place)
    assert card.measured["overall"]["accuracy"]["value"] > 0.75 and card.design.network == str(tmp_path / "clip")
    assert (place / "reward.safetensors").stat().st_size < 16_000
    pixels = PIXELS.clone().requires_grad_()
    Learned(str(place))(Images(pixels), [Prompt("a thing 7")] * 2).score.sum().backward()
    assert pixels.grad is not None and pixels.grad.abs().sum() > 0
    (tmp_path / "clip" / "README.md").write_text("mine")
    assert card.network == origin(card.design) and len(card.network[str(tmp_path / "clip")]) == 64
    weights = tmp_path / "clip" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    moved = tmp_path / "r" / ".." / "r"  # read anew, as by another process
    with pytest.raises(UserError, match="stands on .*clip, which is no longer what it was trained on: put that back"):
        read(moved)


def test_packages_are_named_with_their_versions() -> None:
    assert origin(Design()) == {} and list(origin(Design(kind="patches"))) == [EFFICIENTNET]
    assert origin(Design(kind="linear")) == {EFFICIENTNET: version(EFFICIENTNET)}
    assert origin(Design(kind="frozen")) == {name: version(name) for name in (EFFICIENTNET, MINILM)}


def test_what_no_head_can_stand_on_is_refused(tmp_path: Path) -> None:
    tiny_vision.llava(tmp_path)
    with pytest.raises(UserError, match="is a model of kind 'llava'; known are clip, siglip, dinov2"):
        towers(str(tmp_path))
    with pytest.raises(UserError, match="learned: cannot load AutoConfig from"):
        towers(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="of kind small has a network of its own: give --design.kind frozen, linear"):
        Design(network="clip")
