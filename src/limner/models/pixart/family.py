"""PixArt-Sigma (arXiv:2403.04692): diffusion by a transformer whose pictures read T5's states by cross-attention.

Its network answers with noise and a variance, which its pipeline leaves aside, and so does limner.
"""

from __future__ import annotations

from typing import Any

from diffusers import PixArtSigmaPipeline
from torch import Tensor

from limner.core.errors import UserError
from limner.core.types import Condition
from limner.models.chain import CHAIN, chain, chain_times, level
from limner.models.honoured import UNSHIFTED, Honoured, require_equal
from limner.models.lora import OF_PEFT
from limner.models.piped import Family, Piped
from limner.models.pixart.build import tiny_pipeline
from limner.models.pixart.settings import PixArtSettings

TRANSFORMER = Honoured(
    classes=("PixArtTransformer2DModel",),
    free=frozenset(
        "activation_fn attention_bias attention_head_dim caption_channels cross_attention_dim in_channels "
        "interpolation_scale norm_elementwise_affine norm_eps norm_type num_attention_heads num_layers out_channels "
        "sample_size upcast_attention".split()
    ),
    only={
        "attention_type": ("default",),
        "patch_size": (2,),
    },
    idle=frozenset({"dropout", "norm_num_groups", "num_embeds_ada_norm", "use_additional_conditions"}),
)


def require(pipeline: Any, settings: PixArtSettings) -> None:
    """Raise UserError for a pipeline of which a part is not honoured, or whose parts do not fit each other."""
    CHAIN.require("scheduler", pipeline.scheduler)
    TRANSFORMER.require("transformer", pipeline.transformer)
    UNSHIFTED.require("vae", pipeline.vae)
    has, latent = pipeline.transformer.config, pipeline.vae.config.latent_channels
    if pipeline.transformer.use_additional_conditions:
        raise UserError(
            "model: the transformer is told sizes (use_additional_conditions), as PixArt-Alpha's is: take Sigma"
        )
    width = pipeline.text_encoder.config.d_model
    require_equal("transformer has in_channels", has.in_channels, "the vae has latent_channels", latent)
    require_equal("transformer has out_channels", has.out_channels, "twice the vae's latent_channels are", 2 * latent)
    require_equal("transformer has caption_channels", has.caption_channels, "the text encoder gives", width)


def embed(pipeline: Any, settings: PixArtSettings, texts: list[str]) -> dict[str, Tensor]:
    """Return T5's states of each text, and which of them there are."""
    context, mask, *_ = pipeline.encode_prompt(
        texts,
        do_classifier_free_guidance=False,
        device=pipeline.text_encoder.device,
        max_sequence_length=settings.max_sequence_length,
    )
    return {"context": context, "mask": mask.bool()}


def predict(model: Piped, x: Tensor, t: Tensor, rows: Condition) -> Tensor:
    """Return the transformer's noise at the chain's level nearest to t."""
    (found,) = model.networks["transformer"](
        x,
        encoder_hidden_states=rows["context"],
        encoder_attention_mask=rows["mask"].to(x.dtype),
        timestep=level(model.schedule, t),
        added_cond_kwargs={"resolution": None, "aspect_ratio": None},
        return_dict=False,
    )
    return found.chunk(2, dim=1)[0]


PIXART = Family(
    kind="pixart",
    pipelines=(PixArtSigmaPipeline,),
    parts=("scheduler", "text_encoder", "tokenizer", "transformer", "vae"),
    require=require,
    embed=embed,
    predict=predict,
    own=lambda pipeline: (pipeline.transformer.config.sample_size * pipeline.vae_scale_factor,) * 2,
    chain=lambda pipeline: chain(pipeline.scheduler),
    times=lambda pipeline, steps, grid, _: chain_times(pipeline.scheduler, steps, grid),
    lora=OF_PEFT,
    lora_targets=("to_q", "to_k", "to_v", "to_out.0"),
    miniature=tiny_pipeline,
    tiny_settings=PixArtSettings(resolution=32, max_sequence_length=16),
)
