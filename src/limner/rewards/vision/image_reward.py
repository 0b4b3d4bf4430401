"""ImageReward: BLIP reads the prompt while it looks at the picture, and a linear head says how people would rate it."""

from __future__ import annotations

import copy
import functools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limner.core.errors import UserError
from limner.core.media import Media
from limner.core.types import Prompt, RewardSpec
from limner.rewards.vision.preprocess import Preprocess
from limner.rewards.vision.weights import fill, pretrained, read_weights

MEAN, STD = 0.16717362830052426, 1.0333394966054072
"""Of the raw scores, in the authors' code."""
TOKENS = 35
NAMES = (
    (r"^blip\.visual_encoder\.blocks\.", "vision.encoder.layers."),
    (r"^blip\.visual_encoder\.patch_embed\.proj\.", "vision.embeddings.patch_embedding."),
    (r"^blip\.visual_encoder\.pos_embed$", "vision.embeddings.position_embedding"),
    (r"^blip\.visual_encoder\.cls_token$", "vision.embeddings.class_embedding"),
    (r"^blip\.visual_encoder\.norm\.", "vision.post_layernorm."),
    (r"\.attn\.proj\.", ".self_attn.projection."),
    (r"\.attn\.", ".self_attn."),
    (r"\.norm(\d)\.", r".layer_norm\1."),
    (r"^blip\.text_encoder\.", "text."),
    (r"^mlp\.layers\.", "head."),
)
"""The authors' name, as a pattern, and ours: transformers' BLIP under `vision` and `text`."""


@dataclass(frozen=True)
class ImageReward:
    """Score (f - 0.167) / 1.033, the mean over frames: about -2 to 2, 0 and 1 being mean and deviation of its data.

    f is a linear head on the first token of BLIP's text encoder, which attends to the picture. `weights` is the
    published file (`ImageReward.pt`), `base` a folder or hub id with the BlipConfig of BLIP large and BERT's
    tokenizer. The prompt is cut to 35 tokens. Source: ImageReward (arXiv 2304.05977), and its code.
    Raises UserError if no weights are given, or they do not fit.
    """

    weights: str = ""
    base: str = "Salesforce/blip-itm-large-coco"

    @property
    def spec(self) -> RewardSpec:
        return RewardSpec(
            "image_reward",
            "how people would rate the picture for its prompt; about -2 to 2",
            unit="standard deviation",
            needs=("prompt",),
            differentiable=True,
            source="arXiv 2304.05977",
            weights_licence="Apache-2.0",
        )

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> Float[Tensor, " batch"]:
        if not self.weights:
            raise UserError("image_reward: give weights, the file ImageReward.pt of its authors")
        frames = media.frames()
        model, tokenizer, preprocess = _load(self.weights, self.base)
        model, count = model.to(frames.device), frames.shape[1]
        seen = model["vision"](pixel_values=preprocess(frames.flatten(0, 1).float())).last_hidden_state
        texts = [prompt.text for prompt in prompts for _ in range(count)]
        tokens = tokenizer(texts, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt")
        read = model["text"](
            input_ids=tokens.input_ids.to(frames.device),
            attention_mask=tokens.attention_mask.to(frames.device),
            encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(seen.shape[:2], dtype=torch.long, device=frames.device),
        ).last_hidden_state[:, 0]
        raw: Float[Tensor, " n"] = model["head"](read)[:, 0]
        return ((raw - MEAN) / STD).unflatten(0, (-1, count)).mean(1)


@functools.cache
def _load(weights: str, base: str) -> tuple[Any, Any, Preprocess]:
    from transformers.models.blip.modeling_blip import BlipVisionModel
    from transformers.models.blip.modeling_blip_text import BlipTextModel

    state = to_transformers(read_weights("image_reward", weights))
    config = copy.deepcopy(pretrained("image_reward", "BlipConfig", base))
    cells = state.get("vision.embeddings.position_embedding", torch.zeros(1, 1, 1)).shape[1] - 1
    config.vision_config.image_size = math.isqrt(cells) * config.vision_config.patch_size  # the hub has 384, this 224
    config.vision_config.layer_norm_eps = 1e-6  # the authors'; transformers' default is 1e-5
    width = config.text_config.hidden_size
    parts = {
        "vision": BlipVisionModel(config.vision_config),
        "text": BlipTextModel(config.text_config, add_pooling_layer=False),
        "head": nn.Sequential(
            nn.Linear(width, 1024),
            nn.Identity(),
            nn.Linear(1024, 128),
            nn.Identity(),
            nn.Linear(128, 64),
            nn.Identity(),
            nn.Linear(64, 16),
            nn.Linear(16, 1),
        ),  # fmt: skip
    }  # where the authors have dropout, idle at evaluation, there is nothing
    model = fill("image_reward", nn.ModuleDict(parts), state, weights)
    return model, pretrained("image_reward", "AutoTokenizer", base), Preprocess(config.vision_config.image_size)


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the published weights under the names of transformers' BLIP.

    What the score does not use stays out: the text decoder, the momentum copies and queues of pretraining, poolers,
    and position numbers.
    """
    converted = {}
    for name, value in state.items():
        renamed = name
        for pattern, replacement in NAMES:
            renamed = re.sub(pattern, replacement, renamed)
        used = renamed.startswith(("vision.", "text.", "head."))
        if used and not renamed.endswith("position_ids") and ".pooler." not in renamed:
            converted[renamed] = value
    return converted
