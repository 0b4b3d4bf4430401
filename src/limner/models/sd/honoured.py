"""What the adapter honours of a Stable Diffusion pipeline's parts: the UNet's fields, and those of its noise chain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from limner.models.chain import CHAIN
from limner.models.honoured import AUTOENCODER, UNSHIFTED, Honoured, require_equal

UNET = Honoured(
    classes=("UNet2DConditionModel",),
    free=frozenset(
        "act_fn addition_embed_type_num_heads addition_time_embed_dim attention_head_dim block_out_channels "
        "center_input_sample conv_in_kernel conv_out_kernel cross_attention_dim cross_attention_norm down_block_types "
        "downsample_padding flip_sin_to_cos freq_shift in_channels layers_per_block mid_block_only_cross_attention "
        "mid_block_scale_factor mid_block_type norm_eps norm_num_groups num_attention_heads only_cross_attention "
        "out_channels projection_class_embeddings_input_dim resnet_out_scale_factor resnet_skip_time_act "
        "resnet_time_scale_shift reverse_transformer_layers_per_block sample_size time_embedding_act_fn "
        "time_embedding_dim time_embedding_type timestep_post_act transformer_layers_per_block up_block_types "
        "upcast_attention use_linear_projection".split()
    ),
    only={
        "addition_embed_type": (None,),
        "attention_type": ("default",),  # GLIGEN's boxes
        "class_embed_type": (None,),
        "class_embeddings_concat": (False,),
        "dual_cross_attention": (False,),  # Versatile Diffusion reads text and picture
        "encoder_hid_dim": (None,),
        "encoder_hid_dim_type": (None,),
        "num_class_embeds": (None,),
        "time_cond_proj_dim": (None,),  # guidance as an input, of distilled networks (LCM)
    },
    idle=frozenset({"dropout"}),  # a network is in evaluation mode
)
UNET_XL = replace(UNET, only={**UNET.only, "addition_embed_type": ("text_time",)})


def require_honoured(pipeline: Any, is_xl: bool) -> None:
    """Raise UserError for a pipeline of which a part is not honoured, or whose parts do not fit each other."""
    parts = pipeline.components
    CHAIN.require("scheduler", pipeline.scheduler)
    (UNET_XL if is_xl else UNET).require("unet", pipeline.unet)
    (AUTOENCODER if is_xl else UNSHIFTED).require("vae", pipeline.vae)
    unet, latent = pipeline.unet.config, pipeline.vae.config.latent_channels
    require_equal("unet has in_channels", unet.in_channels, "the vae has latent_channels", latent)
    require_equal("unet has out_channels", unet.out_channels, "the vae has latent_channels", latent)
    encoders = [parts[name].config for name in ("text_encoder", "text_encoder_2") if parts.get(name) is not None]
    width = sum(each.hidden_size for each in encoders)
    require_equal("unet has cross_attention_dim", unet.cross_attention_dim, "the text encoders give", width)
    if is_xl:
        added = 6 * unet.addition_time_embed_dim + parts["text_encoder_2"].config.projection_dim
        has = unet.projection_class_embeddings_input_dim
        require_equal(
            "unet has projection_class_embeddings_input_dim", has, "six sizes and the pooled text make", added
        )
