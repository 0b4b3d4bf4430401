"""Qwen-Image-Edit: what the language model sees of a picture, beside the prompt and beside the negative one."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit, pipeline_qwenimage_edit_plus
from PIL import Image

from limner.core.errors import UserError
from limner.core.types import Prompt
from limner.engine.lora import lora
from limner.engine.precision import Precision
from limner.models.piped import Family, Piped
from limner.models.qwen_image.build import tiny_edit
from limner.models.qwen_image.edit import QWEN_IMAGE_EDIT, QWEN_IMAGE_EDIT_PLUS
from limner.models.qwen_image.reading import reading
from limner.models.qwen_image.settings import QwenImageEditPlusSettings, QwenImageEditSettings
from limner.rollout.collect import EncodeCache
from piped_cases import PICTURES, PROMPTS, noise

FAMILIES = pytest.mark.parametrize("family", [QWEN_IMAGE_EDIT, QWEN_IMAGE_EDIT_PLUS], ids=["edit", "plus"])
MEAN, STD = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
"""CLIP's, of the levels of each colour."""
SAME = [Prompt("a red star", inputs={"image": picture}) for picture in PICTURES]
"""One text, of two pictures."""


def made(family: Family, **changes: Any) -> Piped:
    return Piped.wrap(family, family.miniature(), replace(family.tiny_settings, **changes))


def by_pipeline(model: Piped, text: str, picture: str) -> torch.Tensor:
    """Return the network's answer to noise at time 0.5, of what the pipeline's own functions make of both."""
    pipeline, shown = model.pipeline, Image.open(picture).convert("RGB")
    height, width = model.settings.seen()
    context, _ = pipeline.encode_prompt(text, [shown.resize((width, height), Image.Resampling.LANCZOS)])
    x = noise(model, 1)[:, :, None]
    levels = pipeline.image_processor.preprocess(shown, 32, 32).unsqueeze(2)
    given = pipeline._encode_vae_image(levels, generator=None)
    tokens = [pipeline._pack_latents(each, 1, 16, *each.shape[-2:]) for each in (x, given)]
    (answer,) = model.networks["transformer"](
        hidden_states=torch.cat(tokens, 1),
        timestep=torch.tensor([0.5]),
        encoder_hidden_states=context,
        img_shapes=[[(1, 2, 2), (1, 2, 2)]],
        return_dict=False,
    )
    return pipeline._unpack_latents(answer[:, :4], 32, 32, 8)[:, :, 0]


@FAMILIES
def test_guidance_leads_away_from_the_negative_text_beside_each_picture(family: Family) -> None:
    """One pass asks about both pictures with the prompt, and then about both with the negative text."""
    model = made(family, negative_prompt="two red")
    condition = model.encode(SAME)
    x = noise(model, 1).repeat(4, 1, 1, 1)
    with torch.no_grad():
        found = model.predict(x, torch.full((4,), 0.5), condition, torch.tensor([1, 0, 2, 2]))
        asked = [("a red star", 1), ("a red star", 0), ("two red", 1), ("two red", 0)]
        expected = torch.cat([by_pipeline(model, text, PICTURES[place]) for text, place in asked])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert (found[2] - found[3]).abs().max() > 1e-3, "the negative text is another beside another picture"


@FAMILIES
def test_a_prompt_is_encoded_once_for_each_picture(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = made(family), []
    plain = model.pipeline.encode_prompt

    def counted(text: list[str], *rest: Any, **how: Any) -> Any:
        asked.append(text[0])
        return plain(text, *rest, **how)

    monkeypatch.setattr(model.pipeline, "encode_prompt", counted)
    cache = EncodeCache(model.encode)
    first = cache.condition([*SAME, replace(SAME[0], meta={"count": 1})])
    assert asked == ["a red star", " "] * 2
    again = cache.condition(SAME[::-1])
    assert len(asked) == 4
    for name in ("context", "mask", "image"):
        assert torch.equal(first[name][[1, 0, 3]], again[name]) and torch.equal(first[name][0], first[name][2])
    assert (first["context"][0] - first["context"][1]).abs().max() > 1e-3
    together = model.encode(SAME)
    assert all(torch.equal(each[:2], first[name][:2]) for name, each in together.items())


SIZES = [(1024, 1024), (832, 1248), (1312, 800), (768, 1376)]


@pytest.mark.parametrize("size", SIZES)
def test_a_picture_is_scaled_as_the_pipeline_scales_one_of_the_shape_that_is_drawn(size: tuple[int, int]) -> None:
    height, width = size
    seen = QwenImageEditPlusSettings(resolution=height, width=width).seen()
    area = pipeline_qwenimage_edit_plus.CONDITION_IMAGE_SIZE
    assert seen[::-1] == pipeline_qwenimage_edit_plus.calculate_dimensions(area, width / height)
    assert QwenImageEditSettings(resolution=height, width=width).seen() == size
    for settings in (QwenImageEditSettings(height, width), QwenImageEditPlusSettings(height, width)):
        assert (settings.call({})["height"], settings.call({})["width"]) == size


@pytest.mark.parametrize("size", SIZES)
def test_of_the_pipelines_own_sizes_it_would_do_the_same_untold(size: tuple[int, int]) -> None:
    """What it computes of a picture of such a size is that size."""
    height, width = size
    for module in (pipeline_qwenimage_edit, pipeline_qwenimage_edit_plus):
        assert module.calculate_dimensions(1024 * 1024, width / height)[:2] == (width, height)


def test_what_a_card_tells_the_pipeline() -> None:
    for settings, sizes in (
        (QwenImageEditSettings(512, 768), {1024 * 1024: (768, 512, None)}),
        (QwenImageEditPlusSettings(512, 768), {1024 * 1024: (768, 512), 384 * 384: (480, 320)}),
    ):
        held: dict[str, Any] = {}
        line, told = settings.told({})
        exec(line, held)
        module = held["editing"]
        own = module.calculate_dimensions
        try:
            exec(told, held)
            assert {area: module.calculate_dimensions(area, 1.0) for area in sizes} == sizes
        finally:
            module.calculate_dimensions = own


def test_a_text_that_is_too_long_is_refused_and_not_cut() -> None:
    """Its 17 letters are tokens each, and 7 more stand around them, of which 2 begin and end the picture."""
    fits, model = made(QWEN_IMAGE_EDIT, max_sequence_length=24), made(QWEN_IMAGE_EDIT, max_sequence_length=23)
    long = Prompt("qqqqqqqqqqqqqqqqq", inputs={"image": PICTURES[0]})
    mask = fits.encode([long])["mask"]
    assert mask.shape == (2, 2, 4 + 24) and int(mask[0, 0].sum()) == 28 and int(mask[0, 1].sum()) == 12
    with pytest.raises(UserError, match="'qqqqqqqqqqqqqqqqq' is 24 tokens, .*max_sequence_length is 23: raise it"):
        model.encode([long])


def test_the_instruction_before_the_picture_is_64_tokens_here_too() -> None:
    pipeline = tiny_edit()
    before, _ = pipeline.prompt_template_encode.split("<|vision_start|>")
    assert len(pipeline.tokenizer(before)["input_ids"]) == pipeline.prompt_template_encode_start_idx == 64


def test_a_folder_as_published_is_read_without_torchvision(tmp_path: Path, no_network: None) -> None:
    """Its processor is the library's own, of which clips are a part, and its settings are in files of before."""
    model = made(QWEN_IMAGE_EDIT)
    model.pipeline.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["processor"] == ["transformers", "Qwen2VLProcessor"]
    folder = tmp_path / "processor"
    (folder / "processor_config.json").unlink()
    settings = {"min_pixels": 56 * 56, "max_pixels": 28 * 28 * 3, "patch_size": 14, "merge_size": 2}
    settings |= {"image_processor_type": "Qwen2VLImageProcessorFast", "processor_class": "Qwen2_5_VLProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    (folder / "video_preprocessor_config.json").write_text(json.dumps({"min_pixels": 1}))
    loaded = QwenImageEditSettings(64, 96, max_sequence_length=24).load(tmp_path, torch.float32, torch.device("cpu"))
    assert loaded.encode(PROMPTS)["context"].shape == (3, 2, 2 + 24, 32), "of 2 x 3 places two are within max_pixels"
    shutil.rmtree(folder)
    with pytest.raises(UserError, match="has no processor: download that folder"):
        QwenImageEditSettings(64).load(tmp_path, torch.float32, torch.device("cpu"))


def test_pictures_are_levels_as_the_vision_tower_was_trained(tmp_path: Path) -> None:
    """(level / 255 - mean) / std of each channel, patches of 14 x 14, twice in time, by blocks of 2 x 2 patches."""
    tiny_edit().processor.save_pretrained(tmp_path)
    sight = reading(tmp_path).image_processor
    levels = torch.arange(56 * 56 * 3).reshape(56, 56, 3) % 251
    shown = sight([Image.fromarray(levels.byte().numpy())], return_tensors="pt")
    assert shown["image_grid_thw"].tolist() == [[1, 4, 4]] and shown["pixel_values"].shape == (16, 3 * 2 * 14 * 14)
    for patch, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1), (0, 2)]):
        cell = levels[14 * row : 14 * row + 14, 14 * column : 14 * column + 14].permute(2, 0, 1) / 255
        expected = ((cell - MEAN[:, None, None]) / STD[:, None, None])[:, None].expand(3, 2, 14, 14)
        torch.testing.assert_close(shown["pixel_values"][patch], expected.flatten(), atol=1e-5, rtol=1e-4)


@FAMILIES
def test_a_lora_learns_from_a_guided_pass(family: Family) -> None:
    """The gradient is that of a coarse difference, through the prompt's pass and the negative one's."""
    model = made(family)
    weights = lora(
        model.networks, rank=2, alpha=4, targets=model.lora_targets, seed=3, old=False, precision=Precision()
    )
    condition, x = model.encode(SAME), noise(model, 2).repeat(2, 1, 1, 1)
    index, t = torch.tensor([0, 1, 2, 2]), torch.full((4,), 0.5)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for each in weights.policy.values():
            each.add_(0.1 * torch.randn(each.shape, generator=generator))

    def loss() -> torch.Tensor:
        told, negative = model.predict(x, t, condition, index).chunk(2)
        return (negative + 3 * (told - negative)).square().mean()

    names = list(weights.policy)
    gradients = torch.autograd.grad(loss(), list(weights.policy.values()), materialize_grads=True)
    along = [torch.randn(each.shape, generator=generator) for each in gradients]
    slope = sum(float((a * b).sum()) for a, b in zip(along, gradients, strict=True))
    ends = []
    for sign in (1, -2):
        with torch.no_grad():
            for name, each in zip(names, along, strict=True):
                weights.policy[name].add_(sign * 1e-3 * each)
            ends.append(float(loss()))
    assert math.isclose((ends[0] - ends[1]) / 2e-3, slope, rel_tol=0.02)
