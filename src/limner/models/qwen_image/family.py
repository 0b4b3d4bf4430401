"""Qwen-Image (arXiv:2508.02324): rectified flow by a transformer over packed latents and Qwen2.5-VL's states.

Its autoencoder is one of clips, of which a picture is one frame.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import QwenImagePipeline
from torch import Tensor

from limner.core.media import Images
from limner.core.types import Condition
from limner.models.honoured import Honoured, require_equal, require_parts
from limner.models.packing import packed, unpacked
from limner.models.parts import JOINT_ATTENTION, equal_times, filled, present, seen, shown, statistics
from limner.models.piped import Family, Piped
from limner.models.qwen_image.build import tiny_pipeline
from limner.models.qwen_image.settings import QwenImageSettings

TRANSFORMER = Honoured(
    classes=("QwenImageTransformer2DModel",),
    free=frozenset(
        "attention_head_dim axes_dims_rope in_channels joint_attention_dim num_attention_heads num_layers "
        "out_channels".split()
    ),
    only={
        "guidance_embeds": (False,),
        "patch_size": (2,),
        "use_additional_t_cond": (False,),  # of the layered pipeline
        "use_layer3d_rope": (False,),
        "zero_cond_t": (False,),  # of the editing one
    },
)
AUTOENCODER = Honoured(
    classes=("AutoencoderKLQwenImage",),
    free=frozenset(
        "attn_scales base_dim dim_mult latents_mean latents_std num_res_blocks temperal_downsample z_dim".split()
    ),
    only={"input_channels": (3,)},
    idle=frozenset({"dropout"}),  # it is only evaluated
)


def require(pipeline: Any, settings: QwenImageSettings) -> None:
    """Raise UserError for a pipeline of which a part is not honoured, or whose parts do not fit each other."""
    require_of(pipeline, TRANSFORMER)


def require_of(pipeline: Any, transformer: Honoured) -> None:
    """Raise UserError for a pipeline of which a part is not honoured, or whose parts do not fit each other."""
    require_parts(pipeline, transformer, AUTOENCODER, cells=4)
    has, latent = pipeline.transformer.config, pipeline.vae.config.z_dim
    width = pipeline.text_encoder.config.text_config.hidden_size
    require_equal("transformer has out_channels", has.out_channels, "the vae has z_dim", latent)
    require_equal("transformer has joint_attention_dim", has.joint_attention_dim, "the text encoder gives", width)


def embed(pipeline: Any, settings: QwenImageSettings, texts: list[str]) -> dict[str, Tensor]:
    """Return the language model's last states of each text within its instruction, and which of them there are."""
    length, device = settings.max_sequence_length, pipeline.text_encoder.device
    context, mask = pipeline.encode_prompt(texts, device=device, max_sequence_length=length)
    return {"context": filled(context, length), "mask": present(mask, context, length)}


def predict(model: Piped, x: Tensor, t: Tensor, rows: Condition) -> Tensor:
    """Return the transformer's velocity, noise - x0, which a picture that is given stands behind."""
    pictures = [x, rows["image"]] if "image" in rows else [x]
    tokens = [packed(each) for each in pictures]
    (velocity,) = model.networks["transformer"](
        hidden_states=torch.cat(tokens, 1),
        timestep=t,
        encoder_hidden_states=rows["context"],
        encoder_hidden_states_mask=rows["mask"],
        img_shapes=[[(1, each.shape[-2] // 2, each.shape[-1] // 2) for each in pictures]] * len(x),
        return_dict=False,
    )
    return unpacked(velocity[:, : tokens[0].shape[1]], (x.shape[-2], x.shape[-1]))


def rescaled(guided: Tensor, with_prompt: Tensor) -> Tensor:
    """Return the guided velocity with each token as long as it is with the prompt alone.

    Source: diffusers' pipeline, as the model's authors gave it.
    """
    tokens, size = packed(guided), (guided.shape[-2], guided.shape[-1])
    lengths, wanted = (each.norm(dim=-1, keepdim=True) for each in (tokens, packed(with_prompt)))
    return unpacked(tokens * (wanted / lengths), size)


def decode(model: Piped, sample: Tensor) -> Images:
    """Return the pictures, first frames of clips, that the autoencoder decodes."""
    vae, (mean, std) = model.pipeline.vae, statistics(model.pipeline.vae)
    return Images(shown(vae, sample[:, :, None].to(mean) * std + mean, model.cell**2 * sample[0, 0].numel())[:, :, 0])


def encode(model: Piped, frames: Tensor) -> Tensor:
    """Return the latents of pictures, as clips of one frame."""
    mean, std = statistics(model.pipeline.vae)
    return ((seen(model.pipeline.vae, frames.movedim(1, 2)) - mean) / std)[:, :, 0]


QWEN_IMAGE = Family(
    kind="qwen_image",
    pipelines=(QwenImagePipeline,),
    parts=("scheduler", "text_encoder", "tokenizer", "transformer", "vae"),
    require=require,
    embed=embed,
    predict=predict,
    rescaled=rescaled,
    decode=decode,
    encode=encode,
    channels=lambda pipeline: pipeline.transformer.config.in_channels // 4,
    times=equal_times,
    lora_targets=(
        *JOINT_ATTENTION,
        "img_mlp.net.0.proj",
        "img_mlp.net.2",
        "txt_mlp.net.0.proj",
        "txt_mlp.net.2",
    ),
    miniature=tiny_pipeline,
    tiny_settings=QwenImageSettings(resolution=32, max_sequence_length=24),
)
"""Layers as Flow-GRPO's code adapts them: the attention of both streams, and their feed-forward layers."""
