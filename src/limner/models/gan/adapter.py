"""A conditional GAN as a one-step generator: z and a caption in, the latents of a picture out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from limner.core.media import Images, Media
from limner.core.types import Condition, LatentSpec, Prompt
from limner.diffusion.gaussian import Gaussian
from limner.models.folder import plain_folder
from limner.models.gan.build import Beside, beside, read_beside, tiny_pipeline, write
from limner.models.gan.honoured import require_fitting
from limner.models.gan.networks import Start
from limner.models.gan.settings import GANSettings
from limner.models.lora import merged, save_peft
from limner.models.sd3.adapter import SD3
from limner.models.sd3.settings import SD3Settings

OWN = GANSettings()
"""What the model itself has chosen."""


@dataclass(frozen=True, eq=False)
class GAN:
    """A Stable Diffusion 3 pipeline that is asked once: G(z, c) = z - v(z, c, t = 1).

    `networks` holds what learns, and all else is frozen: the pipeline's transformer, what z is drawn from, or a copy H
    of the transformer that says what noise n becomes before it is z, n + H(n, c) - G(n, c). Such a copy knows from the
    first what n and c mean.
    """

    sd3: SD3
    led: SD3 | None
    """H, where it learns."""
    beside: Beside = field(repr=False)
    settings: GANSettings

    lora_targets: ClassVar[tuple[str, ...]] = SD3.lora_targets
    """Of the generator. What z is drawn from is small, and learns whole."""
    wide_lora_targets: ClassVar[tuple[str, ...]] = SD3.wide_lora_targets

    @classmethod
    def load(
        cls,
        source: Any,
        settings: GANSettings = OWN,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> GAN:
        """Load a folder that `limner pretrain --model gan` wrote, in whatever precision.

        Raises UserError if there is none, or if it is damaged.
        """
        pipeline = SD3.read(source, "gan", settings.serves, dtype, device)
        parts = read_beside(plain_folder(source), dtype)
        for part in parts:
            part.to(device)
        return cls.wrap(pipeline, parts, settings, dtype)

    @classmethod
    def wrap(cls, pipeline: Any, parts: Beside, settings: GANSettings = OWN, dtype: torch.dtype = torch.float32) -> GAN:
        """Return the adapter of parts in memory, and freeze all of it but what learns.

        Raises UserError for parts of which something is not honoured, or that do not fit each other.
        """
        sd3 = SD3.wrap(pipeline, SD3Settings(max_sequence_length=settings.max_sequence_length), dtype)
        require_fitting(pipeline, parts, pipeline.tokenizer_max_length + settings.max_sequence_length)
        for part in parts:
            part.eval().requires_grad_(settings.learns == "latent" and part is parts.start)
        pipeline.transformer.requires_grad_(settings.learns == "output")
        led = None
        if settings.learns == "noise":
            led = sd3.with_networks({name: deepcopy(each).requires_grad_() for name, each in sd3.networks.items()})
        return cls(sd3, led, parts, settings)

    @classmethod
    def tiny(cls, folder: Path | None = None, settings: GANSettings = OWN) -> GAN:
        """Return a miniature with random weights; with `folder` it is saved there and loaded again."""
        pipeline = tiny_pipeline()
        parts = beside(pipeline, pipeline.tokenizer_max_length, width=32, seed=0)
        if folder is None:
            return cls.wrap(pipeline, parts, settings)
        write(folder, pipeline, parts)
        return cls.load(folder, settings)

    @property
    def learns(self) -> Literal["output", "latent", "noise"]:
        """Which chance its networks change: noise on what comes out, the z that goes in, or what noise becomes."""
        return self.settings.learns

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """What learns, by its folder."""
        return {"start": self.beside.start} if self.learns == "latent" else (self.led or self.sd3).networks

    def with_networks(self, networks: Mapping[str, nn.Module]) -> GAN:
        """Return this adapter over another network of the same architecture, such as a frozen copy."""
        if self.learns == "output":
            return replace(self, sd3=self.sd3.with_networks(networks))
        if self.led is not None:
            return replace(self, led=self.led.with_networks(networks))
        return replace(self, beside=self.beside._replace(start=cast(Start, networks["start"])))

    @property
    def pipeline_name(self) -> str:
        """Name of diffusers' class that draws from the folder."""
        return self.sd3.pipeline_name

    @property
    def left_out(self) -> tuple[str, ...]:
        """T5 and its tokenizer, where the pipeline has none."""
        return self.sd3.left_out

    @property
    def encoders(self) -> list[nn.Module]:
        """What texts are encoded by; they may be elsewhere than the rest."""
        return self.sd3.encoders

    def encode(self, prompts: Sequence[Prompt]) -> Condition:
        """Return the states of the words of each prompt and the empty one, and a summary of each."""
        return self.sd3.encode(prompts)

    def latent(self) -> LatentSpec:
        """Return the shape of one picture's latents."""
        return self.sd3.latent()

    def noise(self) -> LatentSpec:
        """Return the shape of one z: that of a latent."""
        return self.sd3.latent()

    def start(self, condition: Condition, prompt_index: Int[Tensor, " batch"]) -> Gaussian:
        """Return what z is drawn from."""
        mean, std = self.beside.start(condition["pooled"][prompt_index])
        return Gaussian(mean.float(), std.float())

    def generate(
        self, z: Float[Tensor, "batch *latent"], condition: Condition, prompt_index: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch *latent"]:
        """Return G(z, c)."""
        return z - self.sd3.predict(z, torch.ones(len(z), device=z.device), condition, prompt_index)

    def lead(
        self, n: Float[Tensor, "batch *latent"], condition: Condition, prompt_index: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch *latent"]:
        """Return H(n, c) - G(n, c)."""
        assert self.led is not None  # a sampler of this chance asks only models that learn it
        t = torch.ones(len(n), device=n.device)
        with torch.no_grad():
            unled = self.sd3.predict(n, t, condition, prompt_index)
        return unled - self.led.predict(n, t, condition, prompt_index)

    def decode(self, sample: Float[Tensor, "batch *latent"]) -> Images:
        """Return the pictures of latents, a few at a time; differentiable."""
        return self.sd3.decode(sample)

    def encode_media(self, media: Media) -> Float[Tensor, "batch *latent"]:
        """Return the latents of pictures: the means of the autoencoder's posteriors."""
        return self.sd3.encode_media(media)

    def use(self, base: str, place: str, whole: bool, prompt: str, call: Mapping[str, Any]) -> list[str]:
        """Return the lines of Python by which diffusers draws a picture (`report.card.OwnUse`)."""
        lacks = "".join(f", {name}=None" for name in self.left_out)
        asked = "".join(f", {name}={value!r}" for name, value in call.items())
        load = f"pipe = StableDiffusion3Pipeline.from_pretrained({base}{lacks})"
        draw = f"image = pipe(prompt={prompt!r}{asked}"
        if self.led is not None:
            return _led_use(load, place, whole, f"pipe(prompt={prompt!r}{asked}", self.latent().shape)
        if self.learns == "output":
            kinds = "SD3Transformer2DModel, StableDiffusion3Pipeline" if whole else "StableDiffusion3Pipeline"
            whole_network = f"pipe.transformer = SD3Transformer2DModel.from_pretrained({place})"
            learnt = whole_network if whole else f"pipe.load_lora_weights({place})"
            return [f"from diffusers import {kinds}", "", load, learnt, f"{draw}).images[0]"]
        begun = f"Start.from_pretrained({place})" if whole else f'Start.from_pretrained({base}, subfolder="start")'
        told = f"do_classifier_free_guidance=False, max_sequence_length={self.settings.max_sequence_length}"
        return [
            "import torch",
            "from diffusers import StableDiffusion3Pipeline",
            "from limner.models.gan.networks import Start",
            *([] if whole else ["from peft import PeftModel"]),
            "",
            load,
            f"start = {begun if whole else f'PeftModel.from_pretrained({begun}, {place})'}",
            "with torch.no_grad():",
            f"    mean, std = start(pipe.encode_prompt({prompt!r}, None, None, {told})[2])",
            "    z = torch.normal(mean, std[:, None, None, None])",
            f"{draw}, latents=z).images[0]",
        ]

    def export_lora(self, folder: Path, adapter: str = "default") -> None:
        """Write the LoRA `adapter` of what learns: of the transformer as the pipeline's `load_lora_weights` reads it.

        That of H is one of the transformer too; that of what z is drawn from `PeftModel.from_pretrained(start, folder)`
        reads.
        """
        if self.learns == "latent":
            save_peft(self.beside.start, adapter, folder, task=None)
        else:
            (self.led or self.sd3).export_lora(folder, adapter)

    def export_full(self, folder: Path, adapter: str = "default") -> None:
        """Write what learns as its class's `from_pretrained(folder)` reads it, LoRA `adapter` merged."""
        (network,) = self.networks.values()
        merged(network, adapter).save_pretrained(folder)


def _led_use(load: str, place: str, whole: bool, draw: str, shape: tuple[int, ...]) -> list[str]:
    """Return the lines by which diffusers draws where noise is led by a copy of the transformer."""
    kinds = "SD3Transformer2DModel, StableDiffusion3Pipeline" if whole else "StableDiffusion3Pipeline"
    whole_network = f"pipe.transformer = SD3Transformer2DModel.from_pretrained({place})"
    asked = f'{draw}, latents=n, output_type="latent").images'
    return [
        "import torch",
        f"from diffusers import {kinds}",
        "",
        load,
        f"n = torch.randn(1, {', '.join(map(str, shape))})",
        f"alone, generator = {asked}, pipe.transformer",
        whole_network if whole else f"pipe.load_lora_weights({place})",
        f"z = n + {asked} - alone",
        "pipe.transformer = generator" if whole else "pipe.unload_lora_weights()",
        f"image = {draw}, latents=z).images[0]",
    ]
