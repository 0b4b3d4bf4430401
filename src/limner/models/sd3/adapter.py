"""Stable Diffusion 3 and 3.5 (Esser et al., arXiv:2403.03206) through the parts of diffusers' own pipeline."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import FlowMatchLCMScheduler, StableDiffusion3Pipeline
from diffusers.pipelines.stable_diffusion_3 import pipeline_stable_diffusion_3
from jaxtyping import Float, Int
from torch import Tensor, nn

from limner.core.errors import UserError
from limner.core.media import Images, Media
from limner.core.quiet import no_bars, say_once
from limner.core.types import Condition, LatentSpec, Prompt
from limner.diffusion.prediction import PredictionKind
from limner.diffusion.schedule import RectifiedFlow
from limner.diffusion.timesteps import Grid
from limner.models.borrowed import copied, opened
from limner.models.folder import absent
from limner.models.lora import folded, merged, save_lora
from limner.models.parts import (
    JOINT_ATTENTION,
    decode,
    encode,
    encode_once,
    flow_times,
    freeze,
    load_pipeline,
    text_encoders,
)
from limner.models.picture import sides
from limner.models.sd3.build import tiny_pipeline
from limner.models.sd3.honoured import require_honoured
from limner.models.sd3.settings import SD3Settings

T5_LENGTH = 256
"""diffusers' default `max_sequence_length`: text tokens that T5 adds, zeros where a pipeline has no T5."""

LAST = 0.5
"""The time before data of a student of few steps. A network that needs no more steps than four is right at it; the
scheduler's own, .0089 at a shift of 3, would be an evaluation for nothing."""

OWN = SD3Settings()
"""What the pipeline itself has chosen."""
PARTS = ("scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "transformer", "vae")
OPTIONAL = ("text_encoder_3", "tokenizer_3")

say_once(pipeline_stable_diffusion_3.__name__)


@dataclass(frozen=True, eq=False)
class SD3:
    """A pipeline as a `Denoiser`: native velocity = noise - x0 on t = sigma, network index 1000 t.

    `dtype` is that of the transformer's inputs; its output, the decoder and the pictures are float32. `networks` holds
    the trained transformer; text encoders and autoencoder are frozen. `latent_size` is the latent's height and width.
    """

    pipeline: StableDiffusion3Pipeline = field(repr=False)
    networks: Mapping[str, nn.Module] = field(repr=False)
    settings: SD3Settings
    latent_size: tuple[int, int]
    dtype: torch.dtype

    schedule: ClassVar[RectifiedFlow] = RectifiedFlow()
    prediction: ClassVar[PredictionKind] = "velocity"
    lora_targets: ClassVar[tuple[str, ...]] = JOINT_ATTENTION
    """The published set (diffusers' LoRA scripts; Flow-GRPO): joint attention, without SD3.5-medium's second one."""
    wide_lora_targets: ClassVar[tuple[str, ...]] = (
        *lora_targets,
        "ff.net.0.proj",
        "ff.net.2",
        "ff_context.net.0.proj",
        "ff_context.net.2",
        "norm1.linear",
        "norm1_context.linear",
    )
    """For small bases: the feed-forward and modulation layers too."""

    @classmethod
    def load(
        cls,
        source: str | Path | StableDiffusion3Pipeline,
        settings: SD3Settings = OWN,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> SD3:
        """Load a pipeline folder or a hub id org/name, in whatever precision, or copy a pipeline that is in memory.

        It may be with or without T5.

        Raises UserError if there is no SD3 pipeline, without touching the network for what looks like a path.
        """
        pipeline = cls.read(source, "sd3", settings.serves, dtype, device)
        return cls.wrap(pipeline, settings, dtype)

    @staticmethod
    def read(
        source: Any, kind: str, serves: Sequence[str], dtype: torch.dtype, device: torch.device | str
    ) -> StableDiffusion3Pipeline:
        """Return the pipeline of a folder, a hub id or in memory, whose index calls it one of those a `kind` serves."""

        def load(index: Mapping[str, Any]) -> StableDiffusion3Pipeline:
            without = absent(index, source, OPTIONAL)
            parts = [*PARTS, *(part for part in OPTIONAL if part not in without)]
            return load_pipeline(StableDiffusion3Pipeline, source, index, parts, dtype, without)

        pipeline: StableDiffusion3Pipeline = opened(source, kind, serves, ["transformer"], dtype, device, load)
        return pipeline

    @classmethod
    def wrap(
        cls,
        pipeline: StableDiffusion3Pipeline,
        settings: SD3Settings = OWN,
        dtype: torch.dtype = torch.float32,
    ) -> SD3:
        """Return the adapter of a pipeline in memory, and freeze all of it but the transformer.

        Raises UserError for one of which something is not honoured (`limner.models.sd3.honoured`).
        """
        require_honoured(pipeline)
        length = _length(settings)
        if not 0 <= length <= 512:
            raise UserError(f"model: max_sequence_length is {length}; diffusers' SD3 takes 0 to 512 (None means 256)")
        if length == 0 and pipeline.text_encoder_3 is not None:
            raise UserError(
                "model: max_sequence_length is 0, and the pipeline has a T5, which needs tokens: set "
                "model.settings.max_sequence_length to none"
            )
        freeze(pipeline, [pipeline.transformer])
        networks = {"transformer": pipeline.transformer}
        return cls(pipeline, networks, settings, _latent_size(pipeline, settings), dtype)

    @classmethod
    def tiny(cls, folder: Path | None = None) -> SD3:
        """Return a miniature of SD3.5 with random weights: three text encoders with T5, and 16 latent channels.

        With `folder` the pipeline is saved there, as diffusers does, and loaded again.
        """
        pipeline, settings = tiny_pipeline(), SD3Settings(max_sequence_length=16)
        if folder is None:
            return cls.wrap(pipeline, settings)
        with no_bars():
            pipeline.save_pretrained(folder)
        return cls.load(folder, settings)

    @property
    def pipeline_name(self) -> str:
        """Name of diffusers' class that loads the folder."""
        return type(self.pipeline).__name__

    @property
    def left_out(self) -> tuple[str, ...]:
        """T5 and its tokenizer, where the pipeline has none."""
        return tuple(name for name in OPTIONAL if self.pipeline.components[name] is None)

    @property
    def encoders(self) -> list[nn.Module]:
        """What texts are encoded by; they may be elsewhere than the rest."""
        return text_encoders(self.pipeline)

    def sized(self, height: int, width: int) -> SD3:
        """Return it as it draws at another size. Raises UserError for one that it does not draw."""
        settings = replace(self.settings, resolution=height, width=width)
        return replace(self, settings=settings, latent_size=_latent_size(self.pipeline, settings))

    def with_networks(self, networks: Mapping[str, nn.Module]) -> SD3:
        """Return this adapter over other networks of the same architecture, such as a frozen copy."""
        return replace(self, networks=dict(networks))

    @torch.no_grad()
    def encode(self, prompts: Sequence[Prompt]) -> Condition:
        """Return {"context": [prompts + 1, tokens, dim], "pooled": [prompts + 1, dim]}, the negative prompt last.

        Equal texts are encoded once.
        """

        def embed(texts: list[str]) -> dict[str, Tensor]:
            context, _, pooled, _ = self.pipeline.encode_prompt(
                texts,
                None,
                None,
                device=self.encoders[0].device,
                do_classifier_free_guidance=False,
                max_sequence_length=_length(self.settings),
            )
            return {"context": context, "pooled": pooled}

        return encode_once(prompts, embed, self.dtype, self.latent().device, self.settings.negative_prompt)

    def predict(
        self,
        x: Float[Tensor, "batch *latent"],
        t: Float[Tensor, " batch"],
        condition: Condition,
        prompt_index: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch *latent"]:
        """Return the transformer's velocity, noise - x0, in float32."""
        (velocity,) = self.networks["transformer"](
            hidden_states=x.to(self.dtype),
            timestep=t * self.pipeline.scheduler.config.num_train_timesteps,
            encoder_hidden_states=condition["context"][prompt_index],
            pooled_projections=condition["pooled"][prompt_index],
            return_dict=False,
        )
        return velocity.float()

    def times(self, steps: int, grid: Grid = "own") -> Float[Tensor, " points"]:
        """Return the sigmas of the pipeline's scheduler; "linear" is what FLUX's pipeline and DanceGRPO ask it for."""
        tokens = math.prod(side // self.pipeline.patch_size for side in self.latent_size)
        return flow_times(self.pipeline.scheduler, steps, grid == "linear", tokens)

    def decode(self, sample: Float[Tensor, "batch channels height width"]) -> Images:
        """Return the pictures that the autoencoder decodes, differentiable in `sample`, a few at a time."""
        return decode(self.pipeline.vae, sample, self.pipeline.vae_scale_factor)

    def encode_media(self, media: Media) -> Float[Tensor, "batch channels height width"]:
        """Return the latents of pictures as the autoencoder sees them, without its noise."""
        return encode(self.pipeline.vae, media.frames())

    def latent(self) -> LatentSpec:
        """Return the shape of one latent: channels, height, width; it lives where the transformer is."""
        transformer = self.pipeline.transformer
        shape = (transformer.config.in_channels, *self.latent_size)
        return LatentSpec(shape, torch.float32, transformer.device)

    def export_lora(self, folder: Path, adapter: str = "default") -> None:
        """Write the LoRA `adapter` of the transformer as `pipeline.load_lora_weights(folder)` reads it, at scale 1."""
        save_lora(self.pipeline, folder, *folded(self.networks["transformer"], adapter))

    def export_full(self, folder: Path, adapter: str = "default") -> None:
        """Write the transformer as `SD3Transformer2DModel.from_pretrained(folder)` reads it, LoRA `adapter` merged."""
        merged(self.networks["transformer"], adapter).save_pretrained(folder)

    def few_step(self) -> SD3:
        """Return a copy whose scheduler samples as consistency models are, in few steps, the last from t = LAST."""
        pipeline = copied(self.pipeline, ["transformer"], self.dtype, "sd3", self.settings.serves)
        known = inspect.signature(FlowMatchLCMScheduler).parameters
        config = {key: value for key, value in pipeline.scheduler.config.items() if key in known}
        pipeline.register_modules(scheduler=FlowMatchLCMScheduler(**config | {"shift_terminal": LAST}))
        return SD3.wrap(pipeline, self.settings, self.dtype)

    def export_pipeline(self, folder: Path) -> None:
        """Write the whole pipeline as `from_pretrained(folder)` reads it."""
        with no_bars():
            self.pipeline.save_pretrained(folder)


def _length(settings: SD3Settings) -> int:
    return T5_LENGTH if settings.max_sequence_length is None else settings.max_sequence_length


def _latent_size(pipeline: StableDiffusion3Pipeline, settings: SD3Settings) -> tuple[int, int]:
    """Return height and width of a latent. Raises UserError for a picture that the network has no places for."""
    cell = pipeline.vae_scale_factor
    patch, places = cell * pipeline.patch_size, pipeline.transformer.config.pos_embed_max_size
    own = cell * pipeline.default_sample_size
    height, width = sides(settings.resolution, settings.width, (own, own), patch, places * patch)
    return height // cell, width // cell
