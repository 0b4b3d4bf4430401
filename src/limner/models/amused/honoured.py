"""What the adapter honours of an aMUSEd pipeline: fields of the configurations of its parts."""

from __future__ import annotations

from typing import Any

from limner.models.honoured import Honoured, require_equal

TRANSFORMER = Honoured(
    classes=("UVit2DModel",),
    free=frozenset(  # the network computes by them itself
        "attention_dropout block_num_heads block_out_channels codebook_size cond_embed_dim downsample "
        "encoder_hidden_size hidden_dropout hidden_size in_channels intermediate_size layer_norm_eps "
        "ln_elementwise_affine micro_cond_embed_dim micro_cond_encode_dim num_attention_heads num_hidden_layers "
        "num_res_blocks sample_size upsample use_bias vocab_size".split()
    ),
    numbers=frozenset({"codebook_size", "sample_size"}),
)
VQVAE = Honoured(
    classes=("VQModel",),
    free=frozenset(
        "act_fn block_out_channels down_block_types latent_channels layers_per_block mid_block_add_attention "
        "norm_num_groups norm_type num_vq_embeddings up_block_types vq_embed_dim".split()
    ),
    only={"in_channels": (3,), "out_channels": (3,), "lookup_from_codebook": (True,)},
    idle=frozenset({"force_upcast", "sample_size", "scaling_factor"}),  # it is float32, and codes have no scale
)
SCHEDULER = Honoured(
    classes=("AmusedScheduler",),
    free=frozenset({"mask_token_id"}),
    idle=frozenset({"masking_schedule"}),  # the sampler has one
)


def require_honoured(pipeline: Any) -> None:
    """Raise UserError for a pipeline of which something is not honoured, or whose parts do not fit each other."""
    TRANSFORMER.require("transformer", pipeline.transformer)
    VQVAE.require("vqvae", pipeline.vqvae)
    SCHEDULER.require("scheduler", pipeline.scheduler)
    codes = pipeline.transformer.config.codebook_size
    require_equal("transformer has codebook_size", codes, "the vqvae has", pipeline.vqvae.config.num_vq_embeddings)
