"""aMUSEd (Patil et al., arXiv:2401.01808) as a model that fills in what is hidden, by its pipeline's own parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import AmusedPipeline
from jaxtyping import Float, Int
from torch import Tensor, nn

from limner.core.media import Images, Media
from limner.core.quiet import no_bars, say_once
from limner.core.transfer import sent
from limner.core.types import Condition, LatentSpec, Prompt
from limner.models.amused.build import tiny_pipeline
from limner.models.amused.honoured import require_honoured
from limner.models.amused.settings import AmusedSettings
from limner.models.borrowed import opened
from limner.models.lora import merged, save_peft
from limner.models.parts import at_once, encode_once, freeze, load_pipeline, text_encoders
from limner.models.picture import sides

PARTS = ("tokenizer", "text_encoder", "transformer", "vqvae", "scheduler")
TRAINED = "transformer"
NO_CROP, AESTHETIC = (0, 0), 6
"""What the network is told of a picture beside its size, as the pipeline does unless it is asked for else."""
OWN = AmusedSettings()
"""What the pipeline itself has chosen."""


@dataclass(frozen=True, eq=False)
class Amused:
    """An aMUSEd pipeline as a `MaskedModel`; `networks` holds the trained transformer, all else is frozen.

    `grid` are rows and columns of a picture's codes. Logits and pictures are float32.
    """

    pipeline: AmusedPipeline = field(repr=False)
    networks: Mapping[str, nn.Module] = field(repr=False)
    settings: AmusedSettings
    grid: tuple[int, int]
    dtype: torch.dtype

    lora_targets: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out.0")
    """The attention layers, as diffusers' script for aMUSEd, and their outputs."""
    pipeline_name: ClassVar[str] = "AmusedPipeline"
    left_out: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def load(
        cls,
        source: str | Path | Any,
        settings: AmusedSettings = OWN,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Amused:
        """Load a pipeline folder or a hub id org/name, in whatever precision, or copy a pipeline that is in memory.

        Raises UserError if there is no such pipeline, without touching the network for what looks like a path.
        """

        def load(index: Mapping[str, Any]) -> AmusedPipeline:
            return load_pipeline(AmusedPipeline, source, index, PARTS, dtype, {})

        pipeline = opened(source, "amused", settings.serves, [TRAINED], dtype, device, load)
        return cls.wrap(pipeline, settings, dtype)

    @classmethod
    def wrap(
        cls, pipeline: AmusedPipeline, settings: AmusedSettings = OWN, dtype: torch.dtype = torch.float32
    ) -> Amused:
        """Return the adapter of a pipeline in memory, and freeze all of it but the transformer.

        Raises UserError for one of which something is not honoured.
        """
        say_once(type(pipeline).__module__)
        require_honoured(pipeline)
        cell, own = pipeline.vae_scale_factor, pipeline.transformer.config.sample_size * pipeline.vae_scale_factor
        height, width = sides(settings.resolution, settings.width, (own, own), cell)
        freeze(pipeline, [pipeline.transformer])
        pipeline.vqvae.float()
        return cls(pipeline, {TRAINED: pipeline.transformer}, settings, (height // cell, width // cell), dtype)

    @classmethod
    def tiny(cls, folder: Path | None = None) -> Amused:
        """Return a miniature with random weights; with `folder` it is saved there and loaded again."""
        pipeline = tiny_pipeline()
        if folder is None:
            return cls.wrap(pipeline)
        with no_bars():
            pipeline.save_pretrained(folder)
        return cls.load(folder)

    @property
    def encoders(self) -> list[nn.Module]:
        """What texts are encoded by; they may be elsewhere than the rest."""
        return text_encoders(self.pipeline)

    def with_networks(self, networks: Mapping[str, nn.Module]) -> Amused:
        """Return this adapter over other networks of the same architecture, such as a frozen copy."""
        return replace(self, networks=dict(networks))

    def latent(self) -> LatentSpec:
        """Return the shape of one picture's codes; they live where the transformer is."""
        return LatentSpec((self.grid[0] * self.grid[1],), torch.int64, self.pipeline.transformer.device)

    @torch.no_grad()
    def encode(self, prompts: Sequence[Prompt]) -> Condition:
        """Return {"pooled": [prompts + 1, width], "states": [prompts + 1, words, width]}, the negative prompt last."""
        device = self.latent().device
        return encode_once(prompts, self._embed, self.dtype, device, self.settings.negative_prompt)

    def _embed(self, texts: list[str]) -> dict[str, Tensor]:
        tokenizer, encoder = self.pipeline.tokenizer, self.pipeline.text_encoder
        ids = tokenizer(
            texts,
            padding="max_length",
            truncation=True,
            max_length=tokenizer.model_max_length,
            return_tensors="pt",
        ).input_ids.to(encoder.device)
        found = encoder(ids, output_hidden_states=True)
        return {"pooled": found.text_embeds, "states": found.hidden_states[-2]}

    def fill(
        self, tokens: Int[Tensor, "batch tokens"], condition: Condition, prompt_index: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch tokens codes"]:
        """Return the logits of every place given what is written at the others; what is hidden is below 0."""
        (rows, columns), cell = self.grid, self.pipeline.vae_scale_factor
        pooled, states = condition["pooled"][prompt_index], condition["states"][prompt_index]
        told = sent(torch.tensor([columns * cell, rows * cell, *NO_CROP, AESTHETIC]), states.device).to(states)
        ids = tokens.where(tokens >= 0, self.pipeline.scheduler.config.mask_token_id)
        logits = self.networks[TRAINED](
            ids.unflatten(1, self.grid),
            micro_conds=told.expand(len(tokens), -1),
            pooled_text_emb=pooled,
            encoder_hidden_states=states,
        )
        return logits.flatten(2).transpose(1, 2).float()

    @torch.no_grad()
    def decode(self, sample: Int[Tensor, "batch tokens"]) -> Images:
        """Return the pictures of codes, a few at a time; codes have no gradient."""
        vqvae = self.pipeline.vqvae
        pictures = []
        for part in sample.split(at_once(sample.device, self.pipeline.vae_scale_factor**2 * sample.shape[1])):
            shape = (len(part), *self.grid, vqvae.config.latent_channels)
            pictures.append(vqvae.decode(part, force_not_quantize=True, shape=shape, return_dict=False)[0].clamp(0, 1))
        return Images(torch.cat(pictures))

    @torch.no_grad()
    def encode_media(self, media: Media) -> Int[Tensor, "batch tokens"]:
        """Return the codes of pictures, which this tokenizer sees from 0 to 1."""
        vqvae = self.pipeline.vqvae
        pixels = media.frames()[:, 0].to(vqvae.device)
        parts = pixels.split(at_once(vqvae.device, pixels[0, 0].numel()))
        return torch.cat([vqvae.quantize(vqvae.encode(part).latents)[2][2].view(len(part), -1) for part in parts])

    def use(self, base: str, place: str, whole: bool, prompt: str, call: Mapping[str, Any]) -> list[str]:
        """Return the lines of Python by which diffusers draws a picture (`report.card.OwnUse`)."""
        asked = "".join(f", {name}={value!r}" for name, value in call.items())
        network = (
            [f"network = UVit2DModel.from_pretrained({place})"]
            if whole
            else [
                f'network = UVit2DModel.from_pretrained({base}, subfolder="transformer")',
                f"network = PeftModel.from_pretrained(network, {place}).merge_and_unload()",
            ]
        )
        return [
            "from diffusers import AmusedPipeline, UVit2DModel",
            *([] if whole else ["from peft import PeftModel"]),
            "",
            *network,
            f"pipe = AmusedPipeline.from_pretrained({base}, transformer=network)",
            f"image = pipe(prompt={prompt!r}{asked}).images[0]",
        ]

    def export_lora(self, folder: Path, adapter: str = "default") -> None:
        """Write the LoRA `adapter` of the transformer as peft reads it."""
        save_peft(self.networks[TRAINED], adapter, folder, task=None)

    def export_full(self, folder: Path, adapter: str = "default") -> None:
        """Write the transformer as its `from_pretrained(folder)` reads it, LoRA `adapter` merged."""
        merged(self.networks[TRAINED], adapter).save_pretrained(folder)
