"""What stands beside a GAN's generator: what tells its samples from data, and what its noise is drawn from.

Each is loaded and saved as diffusers' own models are: `Discriminator.from_pretrained(folder)` reads config.json and
safetensors. A latent is seen as a grid of places, 2 x 2 of its pixels each; places mix by a small network over all of
them, which a grid of 16 affords, instead of by attention.

Source: Tolstikhin et al., MLP-Mixer, arXiv:2105.01601.
"""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

PLACE = 2
"""Latent pixels in a row of a place, and rows."""
SLOPE = 0.2
"""Of the leaky rectifiers, as is usual in GANs."""


def _layers(inputs: int, inner: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, inner), nn.LeakyReLU(SLOPE), nn.Linear(inner, outputs))


class Mixer(nn.Module):
    """Mix across places, and then within each."""

    def __init__(self, width: int, places: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.across, self.within = _layers(places, 4 * places, places), _layers(width, 2 * width, width)

    def forward(self, x: Float[Tensor, "batch places width"]) -> Float[Tensor, "batch places width"]:
        """Return the places, mixed."""
        x = x + self.across(self.norms[0](x).transpose(1, 2)).transpose(1, 2)
        return x + self.within(self.norms[1](x))


class Discriminator(ModelMixin, ConfigMixin):
    """D(x, c) = how real x is + how well it goes with c, the inner product of what it sees and what it reads.

    Source: Miyato and Koyama, arXiv:1802.05637, eq. 3.
    """

    @register_to_config
    def __init__(
        self,
        text_width: int = 128,
        text_length: int = 14,
        latent_channels: int = 8,
        latent_size: int = 8,
        width: int = 128,
        layers: int = 3,
        shared: int = 128,
    ) -> None:
        super().__init__()
        places = (latent_size // PLACE) ** 2
        self.from_pixels = nn.Linear(PLACE**2 * latent_channels, width)
        self.places = nn.Parameter(torch.randn(places, width) / 5)
        self.mixers = nn.ModuleList(Mixer(width, places) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.to_shared = nn.Linear(places * width, shared)
        self.to_real = nn.Sequential(nn.LeakyReLU(SLOPE), nn.Linear(shared, 1))
        self.reads = _layers(text_length * text_width, shared, shared)
        self.log_scale = nn.Parameter(torch.tensor(2.3))

    def see(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch shared"]]:
        """Return how real latents are whatever they show, and what is seen in them."""
        x = self.from_pixels(functional.pixel_unshuffle(x, PLACE).flatten(2).transpose(1, 2)) + self.places
        for mixer in self.mixers:
            x = mixer(x)
        seen = self.to_shared(self.norm(x).flatten(1))
        return self.to_real(seen)[:, 0], seen

    def read(self, context: Float[Tensor, "batch tokens text"]) -> Float[Tensor, "batch shared"]:
        """Return what is read of captions, of length 1, given the states that text encoders make of their words."""
        known = functional.layer_norm(context, context.shape[-1:])
        return functional.normalize(self.reads(known.flatten(1)), dim=1)

    def forward(
        self, x: Float[Tensor, "batch channels height width"], context: Float[Tensor, "batch tokens text"]
    ) -> Float[Tensor, " batch"]:
        """Return D(x, c)."""
        real, seen = self.see(x)
        return real + (seen * self.read(context)).sum(1)


class Start(ModelMixin, ConfigMixin):
    """What z is drawn from, given a caption: N(mean(c), std(c)^2 I), and N(0, I) before anything was learnt.

    A mean is alike within each of `cells` x `cells` parts of a latent: where things lie, and in which colour, is said
    in few numbers, and the rest of z stays noise.
    """

    @register_to_config
    def __init__(self, text_width: int = 128, latent_channels: int = 8, latent_size: int = 8, cells: int = 2) -> None:
        super().__init__()
        self.mean, self.log_std = nn.Linear(text_width, latent_channels * cells**2), nn.Linear(text_width, 1)
        for layer in (self.mean, self.log_std):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, pooled: Float[Tensor, "batch text"]
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
        """Return mean and std, given a summary of each caption."""
        known = functional.layer_norm(pooled, pooled.shape[-1:])
        channels, size, cells = (self.config[key] for key in ("latent_channels", "latent_size", "cells"))
        mean = self.mean(known).unflatten(1, (channels, cells, cells))
        return functional.interpolate(mean, size=(size, size)), self.log_std(known)[:, 0].exp()
