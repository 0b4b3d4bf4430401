"""What the adapter honours of a Stable Diffusion 3 pipeline's parts: the transformer's fields and the scheduler's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from limner.models.honoured import AUTOENCODER, FLOW, Honoured, require_equal

TRANSFORMER = Honoured(
    classes=("SD3Transformer2DModel",),
    free=frozenset(
        "attention_head_dim caption_projection_dim dual_attention_layers in_channels joint_attention_dim "
        "num_attention_heads num_layers out_channels patch_size pooled_projection_dim pos_embed_max_size qk_norm "
        "sample_size".split()
    ),
)
"""Its own forward pass computes by all of them; what it does not know (`guidance_embeds`) must not be set."""

FLOW_FEW = replace(
    FLOW,
    classes=("FlowMatchLCMScheduler",),
    only={"invert_sigmas": (False,), "scale_factors": (None,)},  # sizes that grow from step to step
    idle=frozenset({"upscale_mode"}),
)
"""As consistency models are sampled, in few steps."""


def require_honoured(pipeline: Any) -> None:
    """Raise UserError for a pipeline of which a part is not honoured, or whose parts do not fit each other."""
    chain = FLOW_FEW if type(pipeline.scheduler).__name__ in FLOW_FEW.classes else FLOW
    chain.require("scheduler", pipeline.scheduler)
    TRANSFORMER.require("transformer", pipeline.transformer)
    AUTOENCODER.require("vae", pipeline.vae)
    transformer, latent = pipeline.transformer.config, pipeline.vae.config.latent_channels
    require_equal("transformer has in_channels", transformer.in_channels, "the vae has latent_channels", latent)
    require_equal("transformer has out_channels", transformer.out_channels, "the vae has latent_channels", latent)
    pooled = pipeline.text_encoder.config.projection_dim + pipeline.text_encoder_2.config.projection_dim
    has = transformer.pooled_projection_dim
    require_equal("transformer has pooled_projection_dim", has, "the text encoders give", pooled)
