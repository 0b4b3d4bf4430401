"""Qwen-Image-Edit (arXiv:2508.02324, section 5): Qwen-Image that edits a given picture, which it reads in two ways.

The language model sees it beside the text, and its latents stand behind those of the noise, as a frame more. Edit Plus
(2509, 2511) tells the pictures apart by numbers, and shows the language model a smaller one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from diffusers import QwenImageEditPipeline, QwenImageEditPlusPipeline
from PIL import Image
from torch import Tensor

from limner.core.errors import UserError
from limner.models.edited import latents
from limner.models.parts import filled, present
from limner.models.piped import Piped
from limner.models.qwen_image.build import tiny_edit, tiny_edit_plus
from limner.models.qwen_image.family import QWEN_IMAGE, TRANSFORMER, require_of
from limner.models.qwen_image.reading import reading
from limner.models.qwen_image.settings import EditSettings, QwenImageEditPlusSettings, QwenImageEditSettings

EDITING = replace(
    TRANSFORMER,
    free=TRANSFORMER.free | {"zero_cond_t"},  # 2511 tells its network that what is given has no noise
    only={name: values for name, values in TRANSFORMER.only.items() if name != "zero_cond_t"},
)


def require(pipeline: Any, settings: EditSettings) -> None:
    """Raise UserError for a pipeline of which a part is not honoured, or whose parts do not fit each other."""
    require_of(pipeline, EDITING)


def read(model: Piped, texts: list[str], shown: list[Image.Image]) -> dict[str, Tensor]:
    """Return the language model's last states of each text beside its picture, and which of them there are.

    Raises UserError for a text that is longer than the settings say: the pipeline would read all of it.
    """
    pipeline, (height, width) = model.pipeline, model.settings.seen()
    device, deep = pipeline.text_encoder.device, pipeline.text_encoder.config.text_config.hidden_size
    sight = pipeline.processor.image_processor
    places = sight.get_number_of_image_patches(height, width, {}) // sight.merge_size**2
    length = places + model.settings.max_sequence_length
    context = [torch.zeros(0, length, deep, device=device)]
    mask = [torch.zeros(0, length, dtype=torch.bool, device=device)]
    for text, picture in zip(texts, shown, strict=True):
        seen = pipeline.image_processor.resize(picture, height, width)
        states, there = pipeline.encode_prompt([text], [seen], device=device)
        if states.shape[1] > length:
            raise UserError(
                f"prompt {text!r:.80} is {states.shape[1] - places} tokens, with what stands around it, and "
                f"model.settings.max_sequence_length is {length - places}: raise it, or say it in fewer words"
            )
        context.append(filled(states, length))
        mask.append(present(there, states, length))
    return {"context": torch.cat([each.to(context[-1].dtype) for each in context]), "mask": torch.cat(mask)}


QWEN_IMAGE_EDIT = replace(
    QWEN_IMAGE,
    kind="qwen_image_edit",
    pipelines=(QwenImageEditPipeline,),
    parts=(*QWEN_IMAGE.parts, "processor"),
    readers={"processor": reading},
    require=require,
    read=read,
    given={"image": latents},
    miniature=tiny_edit,
    tiny_settings=QwenImageEditSettings(resolution=32, max_sequence_length=24),
)
QWEN_IMAGE_EDIT_PLUS = replace(
    QWEN_IMAGE_EDIT,
    kind="qwen_image_edit_plus",
    pipelines=(QwenImageEditPlusPipeline,),
    miniature=tiny_edit_plus,
    tiny_settings=QwenImageEditPlusSettings(resolution=32, max_sequence_length=32),
)
