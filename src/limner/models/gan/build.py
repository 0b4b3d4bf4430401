"""The parts of a GAN: built from nothing, written as a folder, and read from one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from limner.core.errors import UserError
from limner.core.quiet import no_bars
from limner.models.autoencoder import tiny_autoencoder
from limner.models.clip import projecting_encoder, word_tokenizer
from limner.models.folder import INDEX, plain_folder, served_index
from limner.models.gan.networks import Discriminator, LatentGenerator, Start
from limner.models.intact import require_intact

PIPELINE = "ConditionalGAN"
"""What the index calls it; no library has a class of that name."""
LAYOUT = {
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
    "vae": ["diffusers", "AutoencoderKL"],
    "generator": ["limner.models.gan.networks", "LatentGenerator"],
    "discriminator": ["limner.models.gan.networks", "Discriminator"],
    "start": ["limner.models.gan.networks", "Start"],
}
"""Folders of the parts, and the module and class that loads each by its `from_pretrained`."""


class GANParts(NamedTuple):
    """What makes pictures of captions in one evaluation, and what tells them from data."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModelWithProjection
    vae: AutoencoderKL
    generator: LatentGenerator
    discriminator: Discriminator
    start: Start


def build(
    tokenizer: CLIPTokenizer, text_encoder: CLIPTextModelWithProjection, vae: AutoencoderKL, width: int, seed: int = 0
) -> GANParts:
    """Return a GAN with random weights over the latents of `vae`, given what `text_encoder` makes of captions."""
    text = text_encoder.config.projection_dim
    latent = {"latent_channels": vae.config.latent_channels, "latent_size": _side(vae)}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator = LatentGenerator(text_width=text, width=width, **latent)
        length = tokenizer.model_max_length
        discriminator = Discriminator(text_width=text, text_length=length, width=width, **latent)
        start = Start(generator.config.noise, text)
    return GANParts(tokenizer, text_encoder, vae, generator, discriminator, start)


def _side(vae: AutoencoderKL) -> int:
    """Return latent pixels in a row of what an autoencoder was made for."""
    return int(vae.config.sample_size) // 2 ** (len(vae.config.block_out_channels) - 1)


def tiny_parts(seed: int = 0) -> GANParts:
    """Return a miniature with random weights: pictures of 32 x 32."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = word_tokenizer(("red", "star"), 10)
        encoder, vae = projecting_encoder(tokenizer, 32, 1), tiny_autoencoder(4, 1.5, 0.1)
    return build(tokenizer, encoder, vae, 32, seed)


def write_parts(folder: Path, parts: GANParts) -> None:
    """Write each part as its library does, and the index."""
    with no_bars():
        for name, part in parts._asdict().items():
            part.save_pretrained(folder / name)
    (folder / INDEX).write_text(json.dumps({"_class_name": PIPELINE, **LAYOUT}, indent=2) + "\n", encoding="utf-8")


def read_parts(source: str | Path, dtype: torch.dtype = torch.float32) -> GANParts:
    """Return the parts of a folder, the trained ones in `dtype`, the others in float32, whatever they are stored in.

    Nothing is unpickled. Raises UserError if it is no such folder, or is damaged.
    """
    served_index(source, "gan", (PIPELINE,))
    folder = plain_folder(source)
    require_intact(folder, LAYOUT, [*LAYOUT])
    stored = {"local_files_only": True}
    try:
        with no_bars():
            return GANParts(
                CLIPTokenizer.from_pretrained(folder / "tokenizer", **stored),
                CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder", dtype=torch.float32, **stored),
                AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32, **stored),
                *(
                    kind.from_pretrained(folder / name, torch_dtype=dtype, use_safetensors=True, **stored)
                    for name, kind in (
                        ("generator", LatentGenerator),
                        ("discriminator", Discriminator),
                        ("start", Start),
                    )
                ),
            )
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"model: {source} cannot be loaded ({reason}); save or download it again") from error
