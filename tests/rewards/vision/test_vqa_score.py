from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

import tiny_vision
from limner.core.errors import UserError
from limner.core.media import Images
from limner.core.types import Prompt
from limner.rewards.vision.vqa_score import VqaScore

PROMPTS = [Prompt("a red cat"), Prompt("a {} dog")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llava")
    tiny_vision.llava(path)
    return path


def direct(folder: Path, picture: torch.Tensor, text: str) -> torch.Tensor:
    """Return the probabilities of the next token."""
    image = Image.fromarray((picture.permute(1, 2, 0) * 255).round().byte().numpy())
    inputs = AutoProcessor.from_pretrained(folder)(text=[text], images=[image], return_tensors="pt")
    return LlavaForConditionalGeneration.from_pretrained(folder)(**inputs).logits[0, -1].softmax(-1)


def test_it_is_the_probability_of_yes(folder: Path) -> None:
    pixels = torch.rand(2, 3, 20, 26, generator=torch.Generator().manual_seed(0))
    question = "Does this show {} ?"
    output = VqaScore(model=str(folder), question=question)(Images(pixels), PROMPTS)
    share = VqaScore(model=str(folder), question=question, normalised=True)(Images(pixels), PROMPTS)
    place = tiny_vision.VOCABULARY.index
    for i, (picture, prompt) in enumerate(zip(pixels, PROMPTS, strict=True)):
        probability = direct(folder, picture, f"<image>Does this show {prompt.text} ?")
        yes, no = (probability[[place(word), place(word.lower())]].sum().item() for word in ("Yes", "No"))
        assert output.score[i].item() == pytest.approx(yes, rel=1e-4)
        assert output.components["no"][i].item() == pytest.approx(no, rel=1e-4)
        assert share.score[i].item() == pytest.approx(yes / (yes + no), rel=1e-4)
    assert (output.score[0] - output.score[1]).abs() > 1e-6


def test_a_chat_model_is_asked_through_its_template(folder: Path, tmp_path: Path) -> None:
    tiny_vision.llava(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    processor.chat_template = (
        "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% else %}"
        "{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %} answer{% endif %}"
    )
    processor.save_pretrained(tmp_path)
    pixels = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    score = VqaScore(model=str(tmp_path), question="show {}")(Images(pixels), PROMPTS[:1]).score
    probability = direct(tmp_path, pixels[0], "<image>show a red cat answer")
    place = tiny_vision.VOCABULARY.index
    assert score.item() == pytest.approx(probability[[place("Yes"), place("yes")]].sum().item(), rel=1e-4)


def test_the_question_has_one_place_for_the_prompt() -> None:
    for question in ("Is it good?", "{} or {}?"):
        with pytest.raises(UserError, match="the question needs exactly one {}, where the prompt goes"):
            VqaScore(question=question)


def test_the_processor_sees_8_bits(folder: Path) -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 16, 16))).float() / 255
    reward = VqaScore(model=str(folder), question="show {}")
    assert torch.equal(reward(Images(pixels), PROMPTS[:1]).score, reward(Images(pixels + 0.001), PROMPTS[:1]).score)
