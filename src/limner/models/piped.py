"""The adapter that families share: a pipeline as a `Denoiser`, and what its family has of its own.

A family says how its texts are encoded, what its network is given, and which LoRA layers are usual; all else is alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn

from limner.core.errors import UserError
from limner.core.media import Media
from limner.core.protocols import ModelSettings
from limner.core.quiet import no_bars, say_once
from limner.core.types import Condition, LatentSpec, Prompt
from limner.diffusion.prediction import PredictionKind
from limner.diffusion.schedule import RectifiedFlow, Schedule
from limner.diffusion.timesteps import Grid
from limner.models.borrowed import opened
from limner.models.folder import absent
from limner.models.given import pictures, read_beside, rows_of
from limner.models.lora import OF_PIPELINE, Form, folded, merged
from limner.models.parts import decode, encode, encode_once, flow_times, freeze, load_pipeline, text_encoders
from limner.models.picture import sides

FLOW = RectifiedFlow()


class SizedSettings(ModelSettings, Protocol):
    """What can be chosen about every kind."""

    @property
    def resolution(self) -> int | None: ...

    @property
    def width(self) -> int | None: ...

    @property
    def negative_prompt(self) -> str: ...


@dataclass(frozen=True)
class Family:
    """What pipelines of one kind have of their own; `Piped` is all else.

    `embed(pipeline, settings, texts)` gives the rows of a condition, `predict(model, x, t, rows)` the network's answer
    in its native kind, `require(pipeline, settings)` refuses what would be computed otherwise than it was made for.
    A latent is channels x height x width, or, of a clip, channels x frames x height x width.
    """

    kind: str
    pipelines: tuple[Any, ...]
    """diffusers' classes."""
    parts: tuple[str, ...]
    """Folders that a pipeline must have."""
    require: Callable[[Any, Any], None]
    embed: Callable[[Any, Any, list[str]], dict[str, Tensor]]
    predict: Callable[[Piped, Tensor, Tensor, Condition], Tensor]
    miniature: Callable[[], Any]
    """Returns a pipeline with random weights."""
    tiny_settings: Any
    """What a miniature is used with."""
    lora_targets: tuple[str, ...]
    trained: str = "transformer"
    """The part that learns."""
    optional: tuple[str, ...] = ()
    """Parts that a pipeline may have, and that are used then."""
    without: Mapping[str, Any] = field(default_factory=dict)
    """Arguments that tell diffusers what is never loaded."""
    apart: Mapping[str, str] = field(default_factory=dict)
    """Parts that are published elsewhere, and what to do where a folder lacks them."""
    embed_negative: Callable[[Any, Any, list[str]], dict[str, Tensor]] | None = None
    """How the negative prompt is encoded; None: as others are."""
    own: Callable[[Any], tuple[int, int]] = lambda pipeline: (
        (pipeline.default_sample_size * pipeline.vae_scale_factor,) * 2
    )
    """Height and width in pixels unless a resolution is set."""
    cell: Callable[[Any], int] = lambda pipeline: pipeline.vae_scale_factor
    """Pixels of a latent pixel's side."""
    patch: int = 2
    """Latent pixels of a token's side."""
    frames: Callable[[Any, Any], tuple[int, ...]] = lambda pipeline, settings: ()
    """(pipeline, settings) -> (frames of a latent,), nothing where it has no such axis."""
    channels: Callable[[Any], int] = lambda pipeline: pipeline.transformer.config.in_channels
    times: Callable[[Any, int, Grid, int], Tensor] = lambda pipeline, steps, grid, tokens: flow_times(
        pipeline.scheduler, steps, grid == "linear", tokens
    )
    """(pipeline, steps, grid, tokens) -> `steps + 1` times."""
    native: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda x, t, answer: answer
    """(x, t, the network's answer) -> the prediction in its kind, all in float32."""
    chain: Callable[[Any], tuple[Schedule, PredictionKind]] = lambda _: (FLOW, "velocity")
    rescaled: Callable[[Tensor, Tensor], Tensor] = lambda guided, with_prompt: guided
    """What the pipeline makes of what guidance gives, seeing the prediction with the prompt."""
    decode: Callable[[Piped, Tensor], Media] = lambda model, x: decode(model.pipeline.vae, x, model.cell)
    encode: Callable[[Piped, Tensor], Tensor] = lambda model, frames: encode(model.pipeline.vae, frames)
    given: Mapping[str, Callable[[Piped, list[Image.Image]], Tensor]] = field(default_factory=dict)
    """What each prompt brings along beside its text, by the pipeline's name, and the row of a condition made of it."""
    read: Callable[[Piped, list[str], list[Image.Image]], dict[str, Tensor]] | None = None
    """How texts are encoded by what sees each one's `image` too, the negative one beside each; None: by `embed`."""
    readers: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    """What reads parts that diffusers cannot, or not alike everywhere, called as a `from_pretrained`."""
    lora: Form = OF_PIPELINE
    """How its LoRA is written, and read by those who have no limner."""


@dataclass(frozen=True, eq=False)
class Piped:
    """A pipeline as a `Denoiser`, over t = sigma with the network's own prediction.

    `dtype` is that of the network's inputs; its output, the decoder and the pictures are float32. `networks` holds
    what learns; text encoders and autoencoder are frozen. `latent_size` is the latent's height and width, and
    its frames before those where it has any.
    """

    family: Family = field(repr=False)
    pipeline: Any = field(repr=False)
    networks: Mapping[str, nn.Module] = field(repr=False)
    settings: Any
    latent_size: tuple[int, ...]
    dtype: torch.dtype
    schedule: Schedule = field(repr=False)
    prediction: PredictionKind

    @classmethod
    def load(
        cls,
        family: Family,
        source: str | Path | Any,
        settings: SizedSettings,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Piped:
        """Load a pipeline folder or a hub id org/name, in whatever precision, or copy a pipeline that is in memory.

        Raises UserError if there is no such pipeline, without touching the network for what looks like a path.
        """

        def load(index: Mapping[str, Any]) -> Any:
            for part, remedy in family.apart.items():
                if index.get(part, (None, None))[1] is None:
                    raise UserError(f"model: {source} has no {part}: {remedy}")
            without = absent(index, source, family.optional)
            parts = [*family.parts, *(part for part in family.optional if part not in without)]
            (kind,) = (each for each in family.pipelines if each.__name__ == index["_class_name"])
            return load_pipeline(kind, source, index, parts, dtype, {**without, **family.without}, family.readers)

        pipeline = opened(source, family.kind, settings.serves, [family.trained], dtype, device, load)
        return cls.wrap(family, pipeline, settings, dtype)

    @classmethod
    def wrap(cls, family: Family, pipeline: Any, settings: SizedSettings, dtype: torch.dtype = torch.float32) -> Piped:
        """Return the adapter of a pipeline in memory, and freeze all of it but what learns.

        Raises UserError for one of which something is not honoured.
        """
        say_once(type(pipeline).__module__)
        family.require(pipeline, settings)
        size = _latent_size(family, pipeline, settings)
        trained = pipeline.components[family.trained]
        freeze(pipeline, [trained])
        networks = {family.trained: trained}
        return cls(family, pipeline, networks, settings, size, dtype, *family.chain(pipeline))

    @classmethod
    def tiny(cls, family: Family, folder: Path | None = None) -> Piped:
        """Return a miniature with random weights; with `folder` it is saved there, and loaded again."""
        pipeline = family.miniature()
        if folder is None:
            return cls.wrap(family, pipeline, family.tiny_settings)
        with no_bars():
            pipeline.save_pretrained(folder)
        return cls.load(family, folder, family.tiny_settings)

    @property
    def lora_targets(self) -> Sequence[str]:
        """Name endings of the layers that are usually adapted."""
        return self.family.lora_targets

    @property
    def pipeline_name(self) -> str:
        """Name of diffusers' class that loads the folder."""
        return type(self.pipeline).__name__

    @property
    def left_out(self) -> tuple[str, ...]:
        """Parts that diffusers would ask for unless it is told that they are None."""
        return tuple(name for name in self.family.optional if self.pipeline.components[name] is None)

    @property
    def lora_use(self) -> tuple[Sequence[str], str]:
        """Imports, and the line by which `pipe` reads what `export_lora` wrote (`report.card.OwnLora`)."""
        return self.family.lora.imports, self.family.lora.read

    @property
    def takes(self) -> Sequence[str]:
        """What each prompt brings along."""
        return tuple(self.family.given)

    @property
    def encoders(self) -> list[nn.Module]:
        """What texts are encoded by; they may be elsewhere than the rest."""
        return text_encoders(self.pipeline)

    @property
    def tokens(self) -> int:
        """Number of tokens that the network sees of one latent."""
        return math.prod(self.latent_size) // self.family.patch**2

    @property
    def cell(self) -> int:
        """Pixels of a latent pixel's side."""
        return self.family.cell(self.pipeline)

    def with_networks(self, networks: Mapping[str, nn.Module]) -> Piped:
        """Return this adapter over other networks of the same architecture, such as a frozen copy."""
        return replace(self, networks=dict(networks))

    def sized(self, height: int, width: int) -> Piped:
        """Return it as it draws at another size. Raises UserError for one that it does not draw."""
        settings = replace(self.settings, resolution=height, width=width)
        self.family.require(self.pipeline, settings)
        return replace(self, settings=settings, latent_size=_latent_size(self.family, self.pipeline, settings))

    @torch.no_grad()
    def encode(self, prompts: Sequence[Prompt]) -> Condition:
        """Return what the texts become, a row a prompt, the negative prompt last, and what is given beside them."""
        apart, where, negative = self.family.embed_negative, self.latent().device, self.settings.negative_prompt
        if self.family.read is not None:
            texts = read_beside(prompts, partial(self.family.read, self), self.dtype, where, negative)
        else:
            embed = partial(self.family.embed, self.pipeline, self.settings)
            last = apart and partial(apart, self.pipeline, self.settings)
            texts = encode_once(prompts, embed, self.dtype, where, negative, last)
        given = {name: make(self, pictures(prompts, name)) for name, make in self.family.given.items()}
        empty = {name: torch.cat([rows, rows.new_zeros(1, *rows.shape[1:])]) for name, rows in given.items()}
        return texts | {name: rows.to(where, self.dtype) for name, rows in empty.items()}

    def predict(
        self,
        x: Float[Tensor, "batch *latent"],
        t: Float[Tensor, " batch"],
        condition: Condition,
        prompt_index: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch *latent"]:
        """Return the network's prediction in float32."""
        rows = rows_of(condition, prompt_index, self.family.given, self.family.read is not None)
        answer = self.family.predict(self, x.to(self.dtype), t, rows)
        return self.family.native(x, t, answer.float())

    def times(self, steps: int, grid: Grid = "own") -> Float[Tensor, " points"]:
        """Return the `steps + 1` times of the pipeline's scheduler, the last 0; "linear" are equal before its shift."""
        return self.family.times(self.pipeline, steps, grid, self.tokens)

    def rescaled(
        self, guided: Float[Tensor, "batch *latent"], with_prompt: Float[Tensor, "batch *latent"]
    ) -> Float[Tensor, "batch *latent"]:
        """Return what the pipeline makes of a guided prediction (`policies.guided.Rescaling`)."""
        return self.family.rescaled(guided, with_prompt)

    def decode(self, sample: Float[Tensor, "batch *latent"]) -> Media:
        """Return what the autoencoder decodes, differentiable in `sample`, a few at a time."""
        return self.family.decode(self, sample)

    @torch.no_grad()
    def encode_media(self, media: Media) -> Float[Tensor, "batch *latent"]:
        """Return the latents of media as the autoencoder sees them, without its noise."""
        return self.family.encode(self, media.frames())

    def latent(self) -> LatentSpec:
        """Return the shape of one latent: channels, (frames,) height, width; it lives where the network is."""
        shape = (self.family.channels(self.pipeline), *self.latent_size)
        return LatentSpec(shape, torch.float32, self.pipeline.components[self.family.trained].device)

    def export_lora(self, folder: Path, adapter: str = "default") -> None:
        """Write the LoRA `adapter` of the network in its family's form, as `lora_use` reads it, at scale 1."""
        self.family.lora.save(self.pipeline, folder, *folded(self.networks[self.family.trained], adapter))

    def export_full(self, folder: Path, adapter: str = "default") -> None:
        """Write the network as its `from_pretrained(folder)` reads it, LoRA `adapter` merged."""
        merged(self.networks[self.family.trained], adapter).save_pretrained(folder)


def _latent_size(family: Family, pipeline: Any, settings: SizedSettings) -> tuple[int, ...]:
    """Return (frames,) height and width of a latent. Raises UserError for pixels that are cut into no whole tokens."""
    cell = family.cell(pipeline)
    height, width = sides(settings.resolution, settings.width, family.own(pipeline), cell * family.patch)
    return (*family.frames(pipeline, settings), height // cell, width // cell)
