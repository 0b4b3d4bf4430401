"""Z-Image (Tongyi, 2025; arXiv:2511.22699): rectified flow by one stream of texts and patches.

The network's time is 1 - t, and its answer x0 - noise. Each text is as long as it is: nothing is padded but to 32s.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ZImagePipeline
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from limner.core.types import Condition
from limner.models.honoured import Honoured, require_equal, require_parts
from limner.models.parts import equal_times, filled
from limner.models.piped import Family, Piped
from limner.models.z_image.build import tiny_pipeline
from limner.models.z_image.settings import ZImageSettings

TRANSFORMER = Honoured(
    classes=("ZImageTransformer2DModel",),
    free=frozenset(
        "axes_dims axes_lens cap_feat_dim dim in_channels n_heads n_kv_heads n_layers n_refiner_layers norm_eps "
        "qk_norm rope_theta t_scale".split()
    ),
    only={"all_f_patch_size": ((1,), [1]), "all_patch_size": ((2,), [2]), "siglip_feat_dim": (None,)},
)


def require(pipeline: Any, settings: ZImageSettings) -> None:
    """Raise UserError for a pipeline of which a part is not honoured, or whose parts do not fit each other."""
    require_parts(pipeline, TRANSFORMER)
    has = pipeline.transformer.config
    width = pipeline.text_encoder.config.hidden_size
    require_equal("transformer has cap_feat_dim", has.cap_feat_dim, "the text encoder gives", width)


def embed(pipeline: Any, settings: ZImageSettings, texts: list[str]) -> dict[str, Tensor]:
    """Return the states of the language model's last layer but one, and which tokens there are."""
    length, device = settings.max_sequence_length, pipeline.text_encoder.device
    states, _ = pipeline.encode_prompt(
        list(texts), device=device, do_classifier_free_guidance=False, max_sequence_length=length
    )
    known = pad_sequence([torch.ones_like(each[:, :1]) for each in states], batch_first=True)
    return {
        "context": filled(pad_sequence(states, batch_first=True), length),
        "mask": filled(known, length)[..., 0] > 0,
    }


def predict(model: Piped, x: Tensor, t: Tensor, rows: Condition) -> Tensor:
    """Return the velocity, noise - x0: what the transformer gives, the other way round."""
    texts = [states[known] for states, known in zip(rows["context"], rows["mask"], strict=True)]
    (found,) = model.networks["transformer"](list(x[:, :, None]), 1 - t, texts, return_dict=False)
    return -torch.stack(found)[:, :, 0]


Z_IMAGE = Family(
    kind="z_image",
    pipelines=(ZImagePipeline,),
    parts=("scheduler", "text_encoder", "tokenizer", "transformer", "vae"),
    require=require,
    embed=embed,
    predict=predict,
    own=lambda pipeline: (1024, 1024),
    times=equal_times,
    lora_targets=("attention.to_q", "attention.to_k", "attention.to_v", "attention.to_out.0"),
    miniature=tiny_pipeline,
    tiny_settings=ZImageSettings(resolution=32, max_sequence_length=32),
)
