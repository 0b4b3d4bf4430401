"""Every field of a part's configuration, as its library has it, was decided about."""

from __future__ import annotations

import inspect

import diffusers
import pytest
from diffusers import (
    AmusedScheduler,
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLLTXVideo,
    AutoencoderKLQwenImage,
    AutoencoderKLWan,
    ChromaTransformer2DModel,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2Transformer2DModel,
    FluxTransformer2DModel,
    LTXVideoTransformer3DModel,
    QwenImageTransformer2DModel,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
    UVit2DModel,
    VQModel,
    WanTransformer3DModel,
    ZImageTransformer2DModel,
    schedulers,
)

from limner.models.amused import honoured as amused
from limner.models.animatediff import family as animatediff
from limner.models.aura_flow import family as aura_flow
from limner.models.chain import CHAIN
from limner.models.chroma import family as chroma
from limner.models.cog_video import family as cog_video
from limner.models.cogview4 import family as cogview4
from limner.models.flux import family as flux
from limner.models.flux2 import family as flux2
from limner.models.hidream import family as hidream
from limner.models.honoured import AUTOENCODER, FLOW, MULTISTEP, UNSHIFTED, Honoured
from limner.models.hunyuan_dit import family as hunyuan_dit
from limner.models.hunyuan_image import family as hunyuan_image
from limner.models.hunyuan_video import family as hunyuan_video
from limner.models.ltx import family as ltx
from limner.models.lumina2 import family as lumina2
from limner.models.mochi import family as mochi
from limner.models.pixart import family as pixart
from limner.models.qwen_image import edit as qwen_image_edit
from limner.models.qwen_image import family as qwen_image
from limner.models.sana import family as sana
from limner.models.sana import sprint
from limner.models.sd.honoured import UNET, UNET_XL
from limner.models.sd3.honoured import TRANSFORMER
from limner.models.tokens.honoured import VQVAE
from limner.models.wan import honoured as wan
from limner.models.z_image import family as z_image

TABLES = [
    (UNET, UNet2DConditionModel),
    (UNET_XL, UNet2DConditionModel),
    (AUTOENCODER, AutoencoderKL),
    (UNSHIFTED, AutoencoderKL),
    (TRANSFORMER, SD3Transformer2DModel),
    (flux.TRANSFORMER, FluxTransformer2DModel),
    (chroma.TRANSFORMER, ChromaTransformer2DModel),
    (ltx.TRANSFORMER, LTXVideoTransformer3DModel),
    (ltx.AUTOENCODER, AutoencoderKLLTXVideo),
    (animatediff.UNET, diffusers.UNetMotionModel),
    (lumina2.TRANSFORMER, diffusers.Lumina2Transformer2DModel),
    (aura_flow.TRANSFORMER, diffusers.AuraFlowTransformer2DModel),
    (cogview4.TRANSFORMER, diffusers.CogView4Transformer2DModel),
    (cogview4.SCHEDULER, FlowMatchEulerDiscreteScheduler),
    (pixart.TRANSFORMER, diffusers.PixArtTransformer2DModel),
    (hunyuan_dit.TRANSFORMER, diffusers.HunyuanDiT2DModel),
    (hunyuan_image.TRANSFORMER, diffusers.HunyuanImageTransformer2DModel),
    (hunyuan_image.AUTOENCODER, diffusers.AutoencoderKLHunyuanImage),
    (hidream.TRANSFORMER, diffusers.HiDreamImageTransformer2DModel),
    (hidream.AGAIN, diffusers.FlowMatchLCMScheduler),
    (mochi.TRANSFORMER, diffusers.MochiTransformer3DModel),
    (mochi.AUTOENCODER, diffusers.AutoencoderKLMochi),
    (mochi.FLOW, FlowMatchEulerDiscreteScheduler),
    (hunyuan_video.TRANSFORMER, diffusers.HunyuanVideoTransformer3DModel),
    (hunyuan_video.AUTOENCODER, diffusers.AutoencoderKLHunyuanVideo),
    (cog_video.TRANSFORMER, diffusers.CogVideoXTransformer3DModel),
    (cog_video.AUTOENCODER, diffusers.AutoencoderKLCogVideoX),
    *((cog_video.CHAIN, getattr(schedulers, name)) for name in cog_video.CHAIN.classes),
    (flux2.TRANSFORMER, Flux2Transformer2DModel),
    (flux2.AUTOENCODER, AutoencoderKLFlux2),
    (qwen_image.TRANSFORMER, QwenImageTransformer2DModel),
    (qwen_image_edit.EDITING, QwenImageTransformer2DModel),
    (qwen_image.AUTOENCODER, AutoencoderKLQwenImage),
    (z_image.TRANSFORMER, ZImageTransformer2DModel),
    (sana.TRANSFORMER, SanaTransformer2DModel),
    (sana.AUTOENCODER, AutoencoderDC),
    (sprint.TOLD, SanaTransformer2DModel),
    (sprint.SCHEDULER, diffusers.SCMScheduler),
    (sana.SOLVER, DPMSolverMultistepScheduler),
    (FLOW, FlowMatchEulerDiscreteScheduler),
    (wan.TRANSFORMER, WanTransformer3DModel),
    (wan.AUTOENCODER, AutoencoderKLWan),
    (wan.FLOW, FlowMatchEulerDiscreteScheduler),
    (MULTISTEP, UniPCMultistepScheduler),
    (VQVAE, VQModel),
    (amused.TRANSFORMER, UVit2DModel),
    (amused.VQVAE, VQModel),
    (amused.SCHEDULER, AmusedScheduler),
    *((CHAIN, getattr(schedulers, name)) for name in CHAIN.classes),
]


@pytest.mark.parametrize(("table", "kind"), TABLES, ids=lambda each: getattr(each, "__name__", ""))
def test_every_field_of_the_library_was_decided_about(table: Honoured, kind: type) -> None:
    """A diffusers that adds a field fails here, before it computes something else in silence."""
    fields = set(inspect.signature(kind.__init__).parameters) - {"self", "args", "kwargs"}
    assert not fields - table.known
    assert not table.free & table.idle and not (table.free | table.idle) & set(table.only)
