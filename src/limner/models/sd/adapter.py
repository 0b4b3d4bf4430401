"""Stable Diffusion 1.5, 2.1 (arXiv:2112.10752) and XL (arXiv:2307.01952) through diffusers' own pipelines.

A UNet that predicts noise, or velocity in the sense of progressive distillation (2.1), on DDPM's variance-preserving
chain. Samples are drawn on the grid of DDIM with the pipeline's own scheduler settings, whatever its scheduler is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, cast

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion
from diffusers.pipelines.stable_diffusion_xl import pipeline_stable_diffusion_xl
from diffusers.utils import convert_state_dict_to_diffusers
from jaxtyping import Float, Int
from torch import Tensor, nn

from limner.core.media import Images, Media
from limner.core.quiet import say_once
from limner.core.types import Condition, LatentSpec, Prompt
from limner.diffusion.prediction import PredictionKind
from limner.diffusion.schedule import VariancePreserving
from limner.diffusion.timesteps import Grid
from limner.models.borrowed import opened
from limner.models.chain import chain, chain_times
from limner.models.lora import folded, merged
from limner.models.parts import decode, encode, encode_once, freeze, load_pipeline, text_encoders
from limner.models.picture import sides
from limner.models.sd.build import Kind, tiny_pipeline
from limner.models.sd.honoured import require_honoured
from limner.models.sd.settings import SDSettings

SDPipeline: TypeAlias = Any
"""StableDiffusionPipeline or StableDiffusionXLPipeline; diffusers has no types."""
OWN = SDSettings()
"""What the pipeline itself has chosen."""
PARTS = ("scheduler", "text_encoder", "tokenizer", "unet", "vae")
PARTS_XL = (*PARTS, "text_encoder_2", "tokenizer_2")
WITHOUT = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
"""A checker that blackens pictures would be a hidden reward."""

say_once(pipeline_stable_diffusion.__name__)
say_once(pipeline_stable_diffusion_xl.__name__)


@dataclass(frozen=True, eq=False)
class SD:
    """A pipeline as a `Denoiser`: the UNet's own prediction at t = (index + 1) / T on its scheduler's chain.

    `dtype` is that of the UNet's inputs; its output, the decoder and the pictures are float32. `networks` holds the
    trained UNet; text encoders and autoencoder are frozen. `latent_size` is the latent's height and width.
    """

    pipeline: SDPipeline = field(repr=False)
    networks: Mapping[str, nn.Module] = field(repr=False)
    settings: SDSettings
    latent_size: tuple[int, int]
    dtype: torch.dtype
    schedule: VariancePreserving = field(repr=False)
    prediction: PredictionKind

    lora_targets: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out.0")
    """The published set (diffusers' LoRA scripts; DDPO): attention of the UNet."""

    @classmethod
    def load(
        cls,
        source: str | Path | SDPipeline,
        settings: SDSettings = OWN,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> SD:
        """Load a pipeline folder or a hub id org/name, in whatever precision, or copy a pipeline that is in memory.

        Raises UserError if there is no such pipeline, without touching the network for what looks like a path.
        """

        def load(index: Mapping[str, Any]) -> SDPipeline:
            xl = index["_class_name"] == "StableDiffusionXLPipeline"
            kind, parts = (StableDiffusionXLPipeline, PARTS_XL) if xl else (StableDiffusionPipeline, PARTS)
            return load_pipeline(kind, cast(Any, source), index, parts, dtype, {} if xl else WITHOUT)

        pipeline = opened(source, "sd", settings.serves, ["unet"], dtype, device, load)
        return cls.wrap(pipeline, settings, dtype)

    @classmethod
    def wrap(cls, pipeline: SDPipeline, settings: SDSettings = OWN, dtype: torch.dtype = torch.float32) -> SD:
        """Return the adapter of a pipeline in memory, and freeze all of it but the UNet.

        Raises UserError for one of which something is not honoured (`limner.models.sd.honoured`).
        """
        require_honoured(pipeline, isinstance(pipeline, StableDiffusionXLPipeline))
        freeze(pipeline, [pipeline.unet])
        size = _latent_size(pipeline, settings)
        return cls(pipeline, {"unet": pipeline.unet}, settings, size, dtype, *chain(pipeline.scheduler))

    @classmethod
    def tiny(cls, kind: Kind = "sd15", folder: Path | None = None) -> SD:
        """Return a miniature with random weights of SD 1.5 ("sd15"), 2.1 ("sd21") or XL ("sdxl").

        With `folder` the pipeline is saved there, as diffusers does, and loaded again.
        """
        pipeline = tiny_pipeline(kind)
        if folder is None:
            return cls.wrap(pipeline)
        pipeline.save_pretrained(folder)
        return cls.load(folder)

    @property
    def is_xl(self) -> bool:
        """Whether pooled text and the picture's size condition the network too."""
        return isinstance(self.pipeline, StableDiffusionXLPipeline)

    @property
    def pipeline_name(self) -> str:
        """Name of diffusers' class that loads the folder."""
        return type(self.pipeline).__name__

    @property
    def left_out(self) -> tuple[str, ...]:
        """Nothing: diffusers loads each of these pipelines from its folder alone."""
        return ()

    @property
    def encoders(self) -> list[nn.Module]:
        """What texts are encoded by; they may be elsewhere than the rest."""
        return text_encoders(self.pipeline)

    def sized(self, height: int, width: int) -> SD:
        """Return it as it draws at another size. Raises UserError for one that it does not draw."""
        settings = replace(self.settings, resolution=height, width=width)
        return replace(self, settings=settings, latent_size=_latent_size(self.pipeline, settings))

    def with_networks(self, networks: Mapping[str, nn.Module]) -> SD:
        """Return this adapter over other networks of the same architecture, such as a frozen copy."""
        return replace(self, networks=dict(networks))

    @torch.no_grad()
    def encode(self, prompts: Sequence[Prompt]) -> Condition:
        """Return {"context": [prompts + 1, 77, dim]}, the negative prompt last; for XL "pooled" as well.

        XL's empty prompt is zeros where the pipeline says so (`force_zeros_for_empty_prompt`), as diffusers' is when no
        negative prompt is given.
        """
        pipeline, where, device = self.pipeline, self.latent().device, self.encoders[0].device
        negative = self.settings.negative_prompt
        if not isinstance(pipeline, StableDiffusionXLPipeline):

            def texts_only(texts: list[str]) -> dict[str, Tensor]:
                return {"context": pipeline.encode_prompt(texts, device, 1, False)[0]}

            return encode_once(prompts, texts_only, self.dtype, where, negative)

        def embed(texts: list[str]) -> dict[str, Tensor]:
            context, _, pooled, _ = pipeline.encode_prompt(texts, device=device, do_classifier_free_guidance=False)
            return {"context": context, "pooled": pooled}

        rows = encode_once(prompts, embed, self.dtype, where, negative)
        if pipeline.config.force_zeros_for_empty_prompt and not negative:
            rows["context"][-1], rows["pooled"][-1] = 0, 0
        return rows

    def predict(
        self,
        x: Float[Tensor, "batch *latent"],
        t: Float[Tensor, " batch"],
        condition: Condition,
        prompt_index: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch *latent"]:
        """Return the UNet's prediction at the chain's level nearest to t, in float32."""
        added = None
        if self.is_xl:
            added = {"text_embeds": condition["pooled"][prompt_index], "time_ids": self._time_ids(x)}
        (prediction,) = self.networks["unet"](
            x.to(self.dtype),
            self.schedule.index(t).clamp(min=0),
            encoder_hidden_states=condition["context"][prompt_index],
            added_cond_kwargs=added,
            return_dict=False,
        )
        return prediction.float()

    def _time_ids(self, x: Float[Tensor, "batch *latent"]) -> Float[Tensor, "batch 6"]:
        """Return XL's six numbers: original size, crop, and target size in pixels; of what is read, not of the model.

        They are filled in where they are, for a copy from the host would wait for an accelerator.
        """
        height, width = (side * self.pipeline.vae_scale_factor for side in x.shape[-2:])
        ids = torch.zeros(len(x), 6, dtype=self.dtype, device=x.device)
        ids[:, 0::4], ids[:, 1::4] = height, width
        return ids

    def times(self, steps: int, grid: Grid = "own") -> Float[Tensor, " points"]:
        """Return DDIM's `steps + 1` times; the last is clean data, or 1 / T where the scheduler says so (1.5)."""
        return chain_times(self.pipeline.scheduler, steps, grid)

    def decode(self, sample: Float[Tensor, "batch channels height width"]) -> Images:
        """Return the pictures that the autoencoder decodes, differentiable in `sample`, a few at a time."""
        return decode(self.pipeline.vae, sample, self.pipeline.vae_scale_factor)

    def encode_media(self, media: Media) -> Float[Tensor, "batch channels height width"]:
        """Return the latents of pictures as the autoencoder sees them, without its noise."""
        return encode(self.pipeline.vae, media.frames())

    def latent(self) -> LatentSpec:
        """Return the shape of one latent: channels, height, width; it lives where the UNet is."""
        unet = self.pipeline.unet
        return LatentSpec((unet.config.in_channels, *self.latent_size), torch.float32, unet.device)

    def export_lora(self, folder: Path, adapter: str = "default") -> None:
        """Write the LoRA `adapter` of the UNet as `pipeline.load_lora_weights(folder)` reads it, at scale 1."""
        tensors, metadata = folded(self.networks["unet"], adapter)
        layers = convert_state_dict_to_diffusers(tensors)
        type(self.pipeline).save_lora_weights(folder, unet_lora_layers=layers, unet_lora_adapter_metadata=metadata)

    def export_full(self, folder: Path, adapter: str = "default") -> None:
        """Write the UNet as `UNet2DConditionModel.from_pretrained(folder)` reads it, LoRA `adapter` merged."""
        merged(self.networks["unet"], adapter).save_pretrained(folder)


def _latent_size(pipeline: SDPipeline, settings: SDSettings) -> tuple[int, int]:
    """Return the height and width of the latent of such a picture. Raises UserError for one that it does not draw."""
    cell = pipeline.vae_scale_factor
    multiple = cell * 2 ** (len(pipeline.unet.config.block_out_channels) - 1)
    own = cell * pipeline.unet.config.sample_size
    height, width = sides(settings.resolution, settings.width, (own, own), multiple)
    return height // cell, width // cell
