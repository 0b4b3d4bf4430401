"""FLUX.2 and FLUX.2 Klein (Black Forest Labs, 2025): rectified flow by a transformer over texts and 2 x 2 latents.

A latent is what 2 x 2 of the autoencoder's become, on the scale of the running statistics that it was trained with.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from diffusers import Flux2KleinPipeline, Flux2Pipeline
from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu
from torch import Tensor

from limner.core.media import Images
from limner.core.transfer import sent
from limner.core.types import Condition
from limner.models.flux2.build import DEEP, KLEIN_DEEP, tiny_klein, tiny_pipeline
from limner.models.flux2.settings import Flux2KleinSettings, Flux2Settings
from limner.models.honoured import Honoured, require_equal, require_parts
from limner.models.packing import packed, unpacked
from limner.models.parts import JOINT_ATTENTION, flow_times, seen, shown
from limner.models.piped import Family, Piped

TRANSFORMER = Honoured(
    classes=("Flux2Transformer2DModel",),
    free=frozenset(
        "attention_head_dim axes_dims_rope eps guidance_embeds in_channels joint_attention_dim mlp_ratio "
        "num_attention_heads num_layers num_single_layers rope_theta timestep_guidance_channels".split()
    ),
    only={"out_channels": (None,), "patch_size": (1,)},
)
AUTOENCODER = Honoured(
    classes=("AutoencoderKLFlux2",),
    free=frozenset(
        "act_fn batch_norm_eps block_out_channels decoder_block_out_channels down_block_types latent_channels "
        "layers_per_block mid_block_add_attention norm_num_groups up_block_types use_post_quant_conv "
        "use_quant_conv".split()
    ),
    only={"in_channels": (3,), "out_channels": (3,), "patch_size": ((2, 2), [2, 2])},
    numbers=frozenset({"batch_norm_eps"}),
    idle=frozenset({"batch_norm_momentum", "sample_size"}),  # it learns nothing, and decodes whole pictures
)


def require(pipeline: Any, settings: Flux2Settings | Flux2KleinSettings) -> None:
    """Raise UserError for a pipeline of which a part is not honoured, or whose parts do not fit each other."""
    require_parts(pipeline, TRANSFORMER, AUTOENCODER, cells=4)
    has = pipeline.transformer.config
    read = pipeline.text_encoder.config.get_text_config()
    layers = DEEP if isinstance(pipeline, Flux2Pipeline) else KLEIN_DEEP
    require_equal(
        "transformer has joint_attention_dim",
        has.joint_attention_dim,
        "three layers of the text encoder give",
        3 * read.hidden_size,
    )
    deep = min(read.num_hidden_layers, layers)
    require_equal("text_encoder has", f"{deep} layers", "the pipeline reads", f"{layers} layers")


def embed(pipeline: Any, settings: Flux2Settings | Flux2KleinSettings, texts: list[str]) -> dict[str, Tensor]:
    """Return the language model's states of each text after three of its layers, side by side."""
    context, _ = pipeline.encode_prompt(
        texts, device=pipeline.text_encoder.device, max_sequence_length=settings.max_sequence_length
    )
    return {"context": context}


def predict(model: Piped, x: Tensor, t: Tensor, rows: Condition) -> Tensor:
    """Return the transformer's velocity, noise - x0; it is told the place of each token, and the scale of guidance."""
    guided = model.pipeline.transformer.config.guidance_embeds
    (velocity,) = model.networks["transformer"](
        hidden_states=x.flatten(2).mT,
        timestep=t,
        guidance=torch.full_like(t, model.settings.guidance) if guided else None,
        encoder_hidden_states=rows["context"],
        txt_ids=sent(places(1, 1, rows["context"].shape[1]), x.device)[None],
        img_ids=sent(places(x.shape[-2], x.shape[-1], 1), x.device)[None],
        return_dict=False,
    )
    return velocity.mT.unflatten(2, x.shape[-2:])


def places(rows: int, columns: int, words: int) -> Tensor:
    """Return (0, row, column, word) of each token."""
    return torch.cartesian_prod(*(torch.arange(each) for each in (1, rows, columns, words)))


def times(pipeline: Any, steps: int, tokens: int) -> Tensor:
    """Return equal times, shifted by what the pipeline makes of the number of tokens, and of steps."""
    return flow_times(pipeline.scheduler, steps, True, tokens, mu=compute_empirical_mu(tokens, steps))


def statistics(vae: Any) -> tuple[Tensor, Tensor]:
    """Return mean and std of each feature of 2 x 2 latent pixels, as the autoencoder's training left them."""
    std = (vae.bn.running_var + vae.config.batch_norm_eps).sqrt()
    return vae.bn.running_mean.view(-1, 1, 1), std.view(-1, 1, 1)


def decode(model: Piped, sample: Tensor) -> Images:
    """Return the pictures that the autoencoder decodes."""
    vae, (mean, std) = model.pipeline.vae, statistics(model.pipeline.vae)
    size = (2 * sample.shape[-2], 2 * sample.shape[-1])
    latents = unpacked((sample.to(mean) * std + mean).flatten(2).mT, size)
    return Images(shown(vae, latents, model.cell**2 * sample[0, 0].numel()))


def encode(model: Piped, frames: Tensor) -> Tensor:
    """Return the latents of pictures, 2 x 2 of the autoencoder's to one."""
    mean, std = statistics(model.pipeline.vae)
    latents = seen(model.pipeline.vae, frames[:, 0])
    size = (latents.shape[-2] // 2, latents.shape[-1] // 2)
    return (packed(latents).mT.unflatten(2, size) - mean) / std


FLUX2 = Family(
    kind="flux2",
    pipelines=(Flux2Pipeline,),
    parts=("scheduler", "text_encoder", "tokenizer", "transformer", "vae"),
    require=require,
    embed=embed,
    predict=predict,
    decode=decode,
    encode=encode,
    own=lambda pipeline: (1024, 1024),
    cell=lambda pipeline: 2 * pipeline.vae_scale_factor,
    patch=1,
    times=lambda pipeline, steps, _, tokens: times(pipeline, steps, tokens),
    lora_targets=(*JOINT_ATTENTION, "attn.to_qkv_mlp_proj"),
    miniature=tiny_pipeline,
    tiny_settings=Flux2Settings(resolution=32, max_sequence_length=32),
)
"""Attention of both kinds of blocks; in the single ones a layer makes queries, keys and values, and more."""
FLUX2_KLEIN = replace(
    FLUX2,
    kind="flux2_klein",
    pipelines=(Flux2KleinPipeline,),
    miniature=tiny_klein,
    tiny_settings=Flux2KleinSettings(resolution=32, max_sequence_length=32),
)
