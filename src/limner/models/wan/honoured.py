"""What the adapter honours of a Wan pipeline's parts: transformer, autoencoder and scheduler, field by field."""

from __future__ import annotations

from typing import Any

from limner.core.errors import UserError
from limner.models.honoured import MULTISTEP, Honoured, require_equal

TRANSFORMER = Honoured(
    classes=("WanTransformer3DModel",),
    free=frozenset(
        "attention_head_dim cross_attn_norm eps ffn_dim freq_dim in_channels num_attention_heads num_layers "
        "out_channels patch_size qk_norm rope_max_seq_len text_dim".split()
    ),
    only={"added_kv_proj_dim": (None,), "image_dim": (None,), "pos_embed_seq_len": (None,)},  # a first frame's
)
FROM_FIRST = Honoured(
    classes=TRANSFORMER.classes,
    free=TRANSFORMER.free | {"added_kv_proj_dim", "image_dim", "pos_embed_seq_len"},
)
AUTOENCODER = Honoured(
    classes=("AutoencoderKLWan",),
    free=frozenset(
        "attn_scales base_dim decoder_base_dim dim_mult in_channels is_residual latents_mean latents_std "
        "num_res_blocks out_channels patch_size scale_factor_spatial scale_factor_temporal temperal_downsample "
        "z_dim".split()
    ),
    idle=frozenset({"dropout"}),  # it is only evaluated
)
FLOW = Honoured(
    classes=("FlowMatchEulerDiscreteScheduler",),
    free=frozenset(  # the scheduler's own grid is what is sampled on
        "num_train_timesteps shift shift_terminal use_beta_sigmas use_exponential_sigmas use_karras_sigmas".split()
    ),
    only={
        "invert_sigmas": (False,),
        "stochastic_sampling": (False,),
        "use_dynamic_shifting": (False,),  # the pipeline does not say how long a clip is
    },
    idle=frozenset("base_image_seq_len base_shift max_image_seq_len max_shift time_shift_type".split()),
)
SCHEDULERS = {kind: table for table in (FLOW, MULTISTEP) for kind in table.classes}


def require_honoured(pipeline: Any) -> None:
    """Raise UserError for a pipeline of which a part is not honoured, or whose parts do not fit each other."""
    SCHEDULERS.get(type(pipeline.scheduler).__name__, FLOW).require("scheduler", pipeline.scheduler)
    AUTOENCODER.require("vae", pipeline.vae)
    vae, width = pipeline.vae.config, pipeline.text_encoder.config.d_model
    given = "image_encoder" in pipeline.components
    beside = given and not pipeline.config.expand_timesteps
    read, reads = vae.z_dim, "the vae has z_dim"
    if beside:
        read, reads = (
            2 * vae.z_dim + pipeline.vae_scale_factor_temporal,
            "noise, first frame and mask have channels",
        )
    second, boundary = pipeline.components["transformer_2"], pipeline.config.boundary_ratio
    if (second is None) != (boundary is None):
        raise UserError(
            f"model: the pipeline has {'no' if second is None else 'a'} transformer_2 and boundary_ratio {boundary}: "
            "an expert of the late steps and where they begin belong together; download the pipeline again"
        )
    for name, network in (("transformer", pipeline.transformer), ("transformer_2", second)):
        if name == "transformer" or network is not None:
            (FROM_FIRST if given else TRANSFORMER).require(name, network)
            transformer = network.config
            require_equal(f"{name} has in_channels", transformer.in_channels, reads, read)
            require_equal(f"{name} has out_channels", transformer.out_channels, "the vae has z_dim", vae.z_dim)
            require_equal(f"{name} has text_dim", transformer.text_dim, "the text encoder gives", width)
            if transformer.pos_embed_seq_len is not None and pipeline.image_encoder is not None:
                seen = pipeline.image_encoder.config
                both = 2 * ((seen.image_size // seen.patch_size) ** 2 + 1)
                require_equal(f"{name} has pos_embed_seq_len", transformer.pos_embed_seq_len, "it sees tokens", both)
            patch = pipeline.transformer.config.patch_size
            require_equal(f"{name} has patch_size", transformer.patch_size, "the transformer has", patch)
    colours = 3 * (vae.patch_size or 1) ** 2
    require_equal("vae has in_channels", vae.in_channels, "the colours of its patches are", colours)
    require_equal("vae has out_channels", vae.out_channels, "the colours of its patches are", colours)


def require_places(pipeline: Any, size: tuple[int, int, int]) -> None:
    """Raise UserError for a clip of more patches along an axis than the transformer has places for."""
    for name in ("transformer", "transformer_2"):
        if (network := pipeline.components[name]) is not None:
            most, patch = network.config.rope_max_seq_len, network.config.patch_size
            if any(length // each > most for length, each in zip(size, patch, strict=True)):
                of, has = (" x ".join(map(str, each)) for each in (patch, size))
                raise UserError(
                    f"model: {name} has places for {most} patches of {of} latents along an axis, and "
                    f"a clip has {has} latents; give fewer frames or pixels"
                )
