"""Wan 2.1 and 2.2 (arXiv:2503.20314), text or image to video, through the parts of diffusers' own pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from diffusers import UniPCMultistepScheduler, WanImageToVideoPipeline, WanPipeline
from diffusers.pipelines.wan import pipeline_wan
from jaxtyping import Float, Int
from torch import Tensor, nn

from limner.core.errors import UserError
from limner.core.media import Media, Videos
from limner.core.quiet import no_bars, say_once
from limner.core.types import Condition, LatentSpec, Prompt
from limner.diffusion.prediction import PredictionKind
from limner.diffusion.schedule import RectifiedFlow
from limner.diffusion.timesteps import Grid
from limner.models.borrowed import opened
from limner.models.folder import absent
from limner.models.given import given_rows, pictures
from limner.models.lora import folded, merged
from limner.models.parts import (
    DECODE_PIXELS_CPU,
    encode_once,
    freeze,
    load_pipeline,
    seen,
    shown,
    statistics,
    text_encoders,
)
from limner.models.wan import experts, first_frame, whole
from limner.models.wan.build import tiny_pipeline
from limner.models.wan.experts import BOTH
from limner.models.wan.honoured import require_honoured
from limner.models.wan.settings import WanSettings
from limner.models.wan.size import latent_size, require_frames

LENGTH = 512
"""diffusers' default `max_sequence_length`."""

OWN = WanSettings()
"""What the pipeline itself has chosen."""
PARTS = ("scheduler", "text_encoder", "tokenizer", "transformer", "vae")
OPTIONAL = ("transformer_2",)
KINDS: Mapping[str, tuple[type[WanPipeline] | type[WanImageToVideoPipeline], tuple[str, ...]]] = {
    "WanPipeline": (WanPipeline, OPTIONAL),
    "WanImageToVideoPipeline": (WanImageToVideoPipeline, (*OPTIONAL, "image_encoder", "image_processor")),
}
"""Class of a pipeline, and what it may lack, by its name."""

say_once(pipeline_wan.__name__)


@dataclass(frozen=True, eq=False)
class Wan:
    """A pipeline as a `Denoiser`: native velocity = noise - x0 on t = sigma, network index 1000 t.

    Where the pipeline's solver is UniPC the index is the whole number below, as that asks. With two experts those of
    at least `boundary_ratio` are the first's.

    `dtype` is that of the transformers' inputs; their output, the decoder and the clips are float32. `networks` holds
    the trained ones; text encoder and autoencoder are frozen. `latent_size` is frames, height and width.

    With a first frame each prompt brings an "image" along, and with a last one "last_image" (`first_frame`).
    """

    pipeline: WanPipeline | WanImageToVideoPipeline = field(repr=False)
    networks: Mapping[str, nn.Module] = field(repr=False)
    settings: WanSettings
    latent_size: tuple[int, int, int]
    dtype: torch.dtype

    schedule: ClassVar[RectifiedFlow] = RectifiedFlow()
    prediction: ClassVar[PredictionKind] = "velocity"
    left_out: ClassVar[tuple[str, ...]] = ()
    lora_targets: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out.0")
    """The published set: both attentions, within the clip and to the text."""
    wide_lora_targets: ClassVar[tuple[str, ...]] = (*lora_targets, "ffn.net.0.proj", "ffn.net.2")
    """For small bases: the feed-forward layers too."""

    @classmethod
    def load(
        cls,
        source: str | Path | WanPipeline | WanImageToVideoPipeline,
        settings: WanSettings = OWN,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Wan:
        """Load a pipeline folder or a hub id org/name, in whatever precision, or copy a pipeline that is in memory.

        Raises UserError if there is no Wan pipeline, without touching the network for what looks like a path.
        """

        def load(index: Mapping[str, Any]) -> WanPipeline | WanImageToVideoPipeline:
            kind, optional = KINDS[index["_class_name"]]
            without = absent(index, cast(Any, source), optional)
            parts = [*PARTS, *(part for part in optional if part not in without)]
            return load_pipeline(kind, cast(Any, source), index, parts, dtype, without)

        pipeline = opened(source, "wan", settings.serves, BOTH, dtype, device, load)
        return cls.wrap(pipeline, settings, dtype)

    @classmethod
    def wrap(
        cls,
        pipeline: WanPipeline | WanImageToVideoPipeline,
        settings: WanSettings = OWN,
        dtype: torch.dtype = torch.float32,
    ) -> Wan:
        """Return the adapter of a pipeline in memory, and freeze all of it but what is trained.

        Raises UserError for one of which something is not honoured (`limner.models.wan.honoured`).
        """
        if settings.first_frame and isinstance(pipeline, WanPipeline):
            pipeline = first_frame.going_on(pipeline)
        require_honoured(pipeline)
        size = latent_size(pipeline, settings)
        trained = {name: pipeline.components[name] for name in BOTH if pipeline.components[name] is not None}
        freeze(pipeline, [*trained.values()])
        return cls(pipeline, trained, settings, size, dtype)

    @classmethod
    def tiny(cls, folder: Path | None = None) -> Wan:
        """Return a miniature of Wan 2.1 with random weights: clips of 5 frames of 32 x 32.

        With `folder` the pipeline is saved there, as diffusers does, and loaded again.
        """
        pipeline, settings = tiny_pipeline(), WanSettings(resolution=32, num_frames=5, max_sequence_length=16)
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
    def takes(self) -> tuple[str, ...]:
        """What each prompt brings along."""
        return first_frame.taken(self.pipeline, self.settings.last_frame)

    @property
    def encoders(self) -> list[nn.Module]:
        """What texts are encoded by; they may be elsewhere than the rest."""
        return text_encoders(self.pipeline)

    def with_networks(self, networks: Mapping[str, nn.Module]) -> Wan:
        """Return this adapter over other networks of the same architecture, such as a frozen copy."""
        return replace(self, networks=dict(networks))

    def sized(self, height: int, width: int) -> Wan:
        """Return it as it draws at another size. Raises UserError for one that it does not draw."""
        if self.takes:
            raise UserError(
                f"sampler.sizes: a {self.pipeline_name} reads what prompts bring along at one size, that of "
                "model.settings: leave them out"
            )
        settings = replace(self.settings, resolution=height, width=width)
        return replace(self, settings=settings, latent_size=latent_size(self.pipeline, settings))

    @torch.no_grad()
    def encode(self, prompts: Sequence[Prompt]) -> Condition:
        """Return {"context": [prompts + 1, tokens, dim]}, the negative prompt last; equal texts are encoded once.

        With a first frame also what `first_frame.encode` makes of each prompt's pictures.
        """
        read = first_frame.reader(self.pipeline)
        length = LENGTH if self.settings.max_sequence_length is None else self.settings.max_sequence_length

        def embed(texts: list[str]) -> dict[str, Tensor]:
            context, _ = read.encode_prompt(
                texts,
                do_classifier_free_guidance=False,
                max_sequence_length=length,
                device=self.encoders[0].device,
            )
            return {"context": context}

        latent = self.latent()
        texts = encode_once(prompts, embed, self.dtype, latent.device, self.settings.negative_prompt)
        if not self.takes:
            return texts
        cell, pace = self.pipeline.vae_scale_factor_spatial, self.pipeline.vae_scale_factor_temporal
        times, height, width = self.latent_size
        size = ((times - 1) * pace + 1, height * cell, width * cell)
        given = first_frame.encode(self.pipeline, [pictures(prompts, name) for name in self.takes], *size)
        return texts | {name: rows.to(latent.device) for name, rows in given.items()}

    def predict(
        self,
        x: Float[Tensor, "batch *latent"],
        t: Float[Tensor, " batch"],
        condition: Condition,
        prompt_index: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch *latent"]:
        """Return the velocity, noise - x0, in float32, each of the expert that its time is of."""
        pipeline, context = self.pipeline, condition["context"]
        level = t * pipeline.scheduler.config.num_train_timesteps
        if isinstance(pipeline.scheduler, UniPCMultistepScheduler):
            level = level.floor()
        asked = {"encoder_hidden_states": context[prompt_index]}
        if not self.takes:
            return experts.velocity(pipeline, self.networks, x.to(self.dtype), level, asked)
        given = given_rows(len(context), prompt_index)
        if "seen" in condition:
            asked["encoder_hidden_states_image"] = condition["seen"][given].flatten(0, 1).to(self.dtype)
        first, beside = condition["first"][given], not pipeline.config.expand_timesteps
        read = first_frame.joined(x, first, beside).to(self.dtype)
        velocity = experts.velocity(pipeline, self.networks, read, level, asked)
        return velocity if beside else first_frame.held(velocity, x, t, first)

    def times(self, steps: int, grid: Grid = "own") -> Float[Tensor, " points"]:
        """Return the sigmas of the pipeline's own scheduler, shifted as its configuration says: `steps + 1`, last 0.

        "linear" are equal before the shift.
        """
        scheduler = type(self.pipeline.scheduler).from_config(self.pipeline.scheduler.config)
        if grid == "linear":
            scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps))
        else:
            scheduler.set_timesteps(steps)
        return scheduler.sigmas

    def decode(self, sample: Float[Tensor, "batch channels frames height width"]) -> Videos:
        """Return the clips that the autoencoder decodes, differentiable in `sample` where they are within its range.

        It is given a few clips at a time, and keeps the latest frames of those, so that only one thread may decode.
        Small clips are decoded in one pass (`limner.models.wan.whole`).
        """
        mean, std = statistics(self.pipeline.vae)
        cell, pace = self.pipeline.vae_scale_factor_spatial, self.pipeline.vae_scale_factor_temporal
        pixels = pace * cell**2 * sample[0, 0].numel()
        by = {"decode": whole.decode} if pixels <= DECODE_PIXELS_CPU else {}
        clips = shown(self.pipeline.vae, sample.to(mean) * std + mean, pixels, **by)
        return Videos(clips.movedim(1, 2), self.settings.fps)

    @torch.no_grad()
    def encode_media(self, media: Media) -> Float[Tensor, "batch channels frames height width"]:
        """Return the latents of clips, without the autoencoder's noise. Raises UserError for what it cannot halve."""
        frames = media.frames()
        require_frames("a clip has", frames.shape[1], self.pipeline.vae_scale_factor_temporal)
        mean, std = statistics(self.pipeline.vae)
        return (seen(self.pipeline.vae, frames.movedim(2, 1)).float() - mean) / std

    def latent(self) -> LatentSpec:
        """Return the shape of one latent: channels, frames, height, width; it lives where the transformer is."""
        transformer = self.pipeline.transformer
        return LatentSpec((transformer.config.out_channels, *self.latent_size), torch.float32, transformer.device)

    def export_lora(self, folder: Path, adapter: str = "default") -> None:
        """Write the LoRA `adapter` as `pipeline.load_lora_weights(folder)` reads it, at scale 1.

        That of a second expert goes to `folder / "transformer_2"`, and is read with `load_into_transformer_2=True`.
        """
        for place, network in self._places(folder):
            tensors, metadata = folded(network, adapter)
            WanPipeline.save_lora_weights(
                place, transformer_lora_layers=tensors, transformer_lora_adapter_metadata=metadata
            )

    @property
    def lora_use(self) -> tuple[Sequence[str], str]:
        """Imports, and the lines by which `pipe` reads what `export_lora` wrote (`report.card.OwnLora`)."""
        return (), "\n".join(experts.READ[name] for name in self.networks)

    def export_full(self, folder: Path, adapter: str = "default") -> None:
        """Write what is trained as `WanTransformer3DModel.from_pretrained(folder)` reads it, LoRA `adapter` merged.

        A second expert goes to `folder / "transformer_2"`.
        """
        for place, network in self._places(folder):
            merged(network, adapter).save_pretrained(place)

    def _places(self, folder: Path) -> list[tuple[Path, nn.Module]]:
        """Return where each trained network is written."""
        return [(folder / name if name in OPTIONAL else folder, network) for name, network in self.networks.items()]
