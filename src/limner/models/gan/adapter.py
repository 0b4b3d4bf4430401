"""A conditional GAN as a one-step generator: z and a caption in, the latents of a picture out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from peft import LoraConfig
from safetensors.torch import save_file
from torch import Tensor, nn

from limner.core.media import Images, Media
from limner.core.types import Condition, LatentSpec, Prompt
from limner.diffusion.gaussian import Gaussian
from limner.models.gan.build import GANParts, read_parts, tiny_parts, write_parts
from limner.models.gan.honoured import require_honoured
from limner.models.gan.settings import GANSettings
from limner.models.lora import folded, merged
from limner.models.parts import decode, encode

OWN = GANSettings()
"""What the model itself has chosen."""
NETWORKS = {"output": "generator", "latent": "start"}
"""Which part learns."""


@dataclass(frozen=True, eq=False)
class GAN:
    """A generator over the latents of an autoencoder. `networks` holds what learns, and all else is frozen.

    A sample is what the autoencoder decodes; what it forgives, noise does not spoil.
    """

    parts: GANParts = field(repr=False)
    networks: Mapping[str, nn.Module] = field(repr=False)
    settings: GANSettings

    lora_targets: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out", "to_places", "to_pixels", "style")
    """The layers by which z and the caption come in. What z is drawn from is small, and learns whole."""
    pipeline_name: ClassVar[str] = "ConditionalGAN"
    left_out: ClassVar[tuple[str, ...]] = ()

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
        parts = read_parts(source, dtype)
        for part in parts[1:]:
            part.to(device)
        return cls.wrap(parts, settings)

    @classmethod
    def wrap(cls, parts: GANParts, settings: GANSettings = OWN) -> GAN:
        """Return the adapter of parts in memory, and freeze all of it but what learns.

        Raises UserError for parts of which something is not honoured (`limner.models.gan.honoured`).
        """
        require_honoured(parts)
        learns = NETWORKS[settings.learns]
        for name, part in parts._asdict().items():
            if isinstance(part, nn.Module):
                part.eval().requires_grad_(name == learns)
        parts.vae.to(memory_format=torch.channels_last)
        return cls(parts, {learns: parts._asdict()[learns]}, settings)

    @classmethod
    def tiny(cls, folder: Path | None = None, settings: GANSettings = OWN) -> GAN:
        """Return a miniature with random weights; with `folder` it is saved there and loaded again."""
        parts = tiny_parts()
        if folder is None:
            return cls.wrap(parts, settings)
        write_parts(folder, parts)
        return cls.load(folder, settings)

    @property
    def learns(self) -> Literal["output", "latent"]:
        """Which chance its networks change: noise on what comes out, or the z that goes in."""
        return self.settings.learns

    @property
    def _device(self) -> torch.device:
        return next(self.parts.generator.parameters()).device

    def with_networks(self, networks: Mapping[str, nn.Module]) -> GAN:
        """Return this adapter over another network of the same architecture, such as a frozen copy."""
        return replace(self, networks=dict(networks))

    def latent(self) -> LatentSpec:
        """Return the shape of one picture's latents."""
        config = self.parts.generator.config
        shape = (config.latent_channels, config.latent_size, config.latent_size)
        return LatentSpec(shape, torch.float32, self._device)

    def noise(self) -> LatentSpec:
        """Return the shape of one z."""
        return LatentSpec((self.parts.generator.config.noise,), torch.float32, self._device)

    @torch.no_grad()
    def encode(self, prompts: Sequence[Prompt]) -> Condition:
        """Return the states of the words of each prompt and the empty one, which of them are there, and summaries."""
        return conditioned(self.parts, [*(prompt.text for prompt in prompts), ""])

    def start(self, condition: Condition, prompt_index: Int[Tensor, " batch"]) -> Gaussian:
        """Return what z is drawn from."""
        mean, std = self._network("start")(condition["pooled"][prompt_index])
        return Gaussian(mean.float(), std.float())

    def generate(
        self, z: Float[Tensor, "batch noise"], condition: Condition, prompt_index: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch *latent"]:
        """Return G(z, c)."""
        words, mask, pooled = (condition[name][prompt_index] for name in ("words", "mask", "pooled"))
        generator = self._network("generator")
        kind = next(generator.parameters()).dtype
        return generator(z.to(kind), words.to(kind), mask, pooled.to(kind)).float()

    def _network(self, name: str) -> nn.Module:
        return self.networks[name] if name in self.networks else self.parts._asdict()[name]

    def decode(self, sample: Float[Tensor, "batch *latent"]) -> Images:
        """Return the pictures of latents, a few at a time; differentiable."""
        return decode(self.parts.vae, sample, 2 ** (len(self.parts.vae.config.block_out_channels) - 1))

    def encode_media(self, media: Media) -> Float[Tensor, "batch *latent"]:
        """Return the latents of pictures: the means of the autoencoder's posteriors."""
        return encode(self.parts.vae, media.frames())

    def use(self, base: str, place: str, whole: bool, prompt: str, call: Mapping[str, Any]) -> list[str]:
        """Return the lines of Python by which limner draws a picture: no other library can (`report.card.OwnUse`)."""
        name = NETWORKS[self.learns]
        kind = type(self.parts._asdict()[name]).__name__
        return [
            "import torch",
            "from diffusers.image_processor import VaeImageProcessor",
            "from limner.core.types import Prompt",
            "from limner.models.gan.adapter import GAN",
            f"from limner.models.gan.networks import {kind}" if whole else "from peft import PeftModel",
            "",
            f"base = GAN.load({base})",
            f"learnt = {kind}.from_pretrained({place})"
            if whole
            else f"learnt = PeftModel.from_pretrained(base.parts.{name}, {place})",
            f'model = base.with_networks({{"{name}": learnt}})',
            f"words, first = model.encode([Prompt({prompt!r})]), torch.tensor([0])",
            "with torch.no_grad():",
            "    start = model.start(words, first)",
            "    z = torch.normal(start.mean, start.std[:, None])",
            "    pixels = model.decode(model.generate(z, words, first)).pixels",
            "image = VaeImageProcessor().postprocess(2 * pixels - 1)[0]",
        ]

    def export_lora(self, folder: Path, adapter: str = "default") -> None:
        """Write the LoRA `adapter` of what learns as `PeftModel.from_pretrained(part, folder)` reads it."""
        (network,) = self.networks.values()
        tensors, metadata = folded(network, adapter)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {f"base_model.model.{name}": each.contiguous() for name, each in tensors.items()},
            folder / "adapter_model.safetensors",
        )
        LoraConfig(**metadata).save_pretrained(folder)

    def export_full(self, folder: Path, adapter: str = "default") -> None:
        """Write what learns as its class's `from_pretrained(folder)` reads it, LoRA `adapter` merged."""
        (network,) = self.networks.values()
        merged(network, adapter).save_pretrained(folder)


def conditioned(parts: GANParts, texts: Sequence[str]) -> dict[str, Tensor]:
    """Return what the networks are given of captions: states of words, which there are, and a summary of each."""
    encoder = parts.text_encoder
    found = parts.tokenizer(list(texts), padding="max_length", truncation=True, return_tensors="pt").to(encoder.device)
    mask: Bool[Tensor, "texts words"] = found["attention_mask"].bool()
    seen = encoder(input_ids=found["input_ids"], attention_mask=found["attention_mask"])
    return {"words": seen.last_hidden_state, "mask": mask, "pooled": seen.text_embeds}
