"""HPSv2.1: a CLIP model of open_clip, trained on people's preferences, brought to transformers' names."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from limner.core.errors import UserError
from limner.core.media import Media
from limner.core.types import Prompt, RewardSpec
from limner.rewards.vision.clip import Clip
from limner.rewards.vision.preprocess import Preprocess
from limner.rewards.vision.weights import fill, pretrained, read_weights

NAMES = (
    (r"^visual\.class_embedding$", "vision_model.embeddings.class_embedding"),
    (r"^visual\.positional_embedding$", "vision_model.embeddings.position_embedding.weight"),
    (r"^visual\.conv1\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual\.ln_pre\.", "vision_model.pre_layrnorm."),
    (r"^visual\.ln_post\.", "vision_model.post_layernorm."),
    (r"^visual\.proj$", "visual_projection.weight"),
    (r"^visual\.transformer\.resblocks\.", "vision_model.encoder.layers."),
    (r"^transformer\.resblocks\.", "text_model.encoder.layers."),
    (r"^token_embedding\.", "text_model.embeddings.token_embedding."),
    (r"^positional_embedding$", "text_model.embeddings.position_embedding.weight"),
    (r"^ln_final\.", "text_model.final_layer_norm."),
    (r"^text_projection$", "text_projection.weight"),
    (r"\.attn\.", ".self_attn."),
    (r"\.ln_(\d)\.", r".layer_norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)
"""open_clip's name, as a pattern, and transformers'; "layrnorm" is theirs."""
TRANSPOSED = ("visual.proj", "text_projection")
"""open_clip multiplies from the right by these, transformers has them as linear layers."""


@dataclass(frozen=True)
class HPSv2:
    """Score cos(picture, prompt) in HPSv2's space, the mean over frames; about 0.2 to 0.35 (tables show it x 100).

    `weights` is the published file (`HPS_v2.1_compressed.pt`), `base` a folder or hub id with the configuration and
    tokenizer of the CLIP ViT-H/14 that it was trained from. A picture that is not square is fitted in and filled up
    with black, as in the authors' code. Source: Human Preference Score v2 (arXiv 2306.09341), eq. 1, unscaled.
    Raises UserError if no weights are given, or they do not fit.
    """

    weights: str = ""
    base: str = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"

    @property
    def spec(self) -> RewardSpec:
        return RewardSpec(
            "hpsv2",
            "how much people prefer the picture for its prompt; about 0.2 to 0.35",
            low=-1.0,
            high=1.0,
            needs=("prompt",),
            differentiable=True,
            source="arXiv 2306.09341",
            weights_licence="Apache-2.0",
        )

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> Float[Tensor, " batch"]:
        if not self.weights:
            raise UserError("hpsv2: give weights, the file HPS_v2.1_compressed.pt of its authors")
        return _load(self.weights, self.base).cosine(media.frames(), [prompt.text for prompt in prompts])


@functools.cache
def _load(weights: str, base: str) -> Clip:
    from transformers import CLIPModel

    config = pretrained("hpsv2", "CLIPConfig", base)
    model = fill("hpsv2", CLIPModel(config), to_transformers(read_weights("hpsv2", weights)), weights)
    preprocess = Preprocess(config.vision_config.image_size, fit="pad")
    return Clip(model, pretrained("hpsv2", "AutoTokenizer", base), preprocess)


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of open_clip's CLIP under the names, and in the layout, of transformers' CLIPModel.

    The three attention projections that open_clip keeps in one matrix come apart; the two last projections turn over.
    """
    converted = {}
    for name, value in state.items():
        if name == "attn_mask":  # the causal mask, which older files keep
            continue
        renamed = name
        for pattern, replacement in NAMES:
            renamed = re.sub(pattern, replacement, renamed)
        if ".in_proj_" in renamed:
            prefix, kind = renamed.split("in_proj_")
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                converted[f"{prefix}{part}_proj.{kind}"] = rows.clone()
        else:
            converted[renamed] = value.T.contiguous() if name in TRANSPOSED else value
    return converted
