"""The networks of a GAN: a generator, what tells its samples from data, and what its noise is drawn from.

Each is loaded and saved as diffusers' own models are: `LatentGenerator.from_pretrained(folder)` reads config.json and
safetensors. A latent is seen as a grid of places, 2 x 2 of its pixels each; places mix by a small network over all of
them, which a grid of 16 affords, instead of by attention.

Source: Tolstikhin et al., MLP-Mixer, arXiv:2105.01601; a style that scales and shifts, Karras et al., arXiv:1812.04948.
"""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

PLACE = 2
"""Latent pixels in a row of a place, and rows."""
SLOPE = 0.2
"""Of the leaky rectifiers, as is usual in GANs."""


def _layers(inputs: int, inner: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, inner), nn.LeakyReLU(SLOPE), nn.Linear(inner, outputs))


class Words(nn.Module):
    """Attention of places to the words of a caption."""

    def __init__(self, width: int, text_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.to_q, self.to_out = nn.Linear(width, width, bias=False), nn.Linear(width, width)
        self.to_k, self.to_v = (nn.Linear(text_width, width, bias=False) for _ in range(2))

    def forward(
        self,
        x: Float[Tensor, "batch places width"],
        words: Float[Tensor, "batch words text"],
        mask: Bool[Tensor, "batch words"],
    ) -> Float[Tensor, "batch places width"]:
        """Return what each place takes from the words."""
        asked = ((self.to_q, self.norm(x)), (self.to_k, words), (self.to_v, words))
        q, k, v = (layer(seen).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer, seen in asked)
        seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        return self.to_out(seen.transpose(1, 2).flatten(2))


class Mixer(nn.Module):
    """Mix across places, and then within each; a style scales and shifts what is mixed."""

    def __init__(self, width: int, places: int, style_width: int = 0) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=not style_width) for _ in range(2))
        self.across, self.within = _layers(places, 4 * places, places), _layers(width, 2 * width, width)
        self.style = nn.Linear(style_width, 4 * width) if style_width else None

    def forward(
        self, x: Float[Tensor, "batch places width"], style: Float[Tensor, "batch style"] | None = None
    ) -> Float[Tensor, "batch places width"]:
        """Return the places, mixed."""
        scale = shift = (0.0, 0.0)
        if self.style is not None:
            parts = self.style(style)[:, None].chunk(4, -1)
            scale, shift = parts[:2], parts[2:]
        x = x + self.across(((1 + scale[0]) * self.norms[0](x) + shift[0]).transpose(1, 2)).transpose(1, 2)
        return x + self.within((1 + scale[1]) * self.norms[1](x) + shift[1])


def _known(words: Float[Tensor, "batch words text"], mask: Bool[Tensor, "batch words"]) -> Tensor:
    """Return the words at one scale, and zeros where there are none."""
    return functional.layer_norm(words, words.shape[-1:]) * mask[..., None]


class LatentGenerator(ModelMixin, ConfigMixin):
    """G(z, c): a latent of noise and a caption, in one evaluation."""

    @register_to_config
    def __init__(
        self,
        noise: int = 64,
        text_width: int = 64,
        latent_channels: int = 8,
        latent_size: int = 8,
        width: int = 128,
        layers: int = 3,
        heads: int = 4,
    ) -> None:
        super().__init__()
        side = latent_size // PLACE
        self.side = side
        self.to_style = nn.Sequential(_layers(noise + text_width, width, width), nn.LeakyReLU(SLOPE))
        self.places = nn.Parameter(torch.randn(side**2, width) / 2)
        self.to_places = nn.Linear(noise, side**2 * width)
        self.mixers = nn.ModuleList(Mixer(width, side**2, width) for _ in range(layers))
        self.words = nn.ModuleList(Words(width, text_width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.to_pixels = nn.Linear(width, PLACE**2 * latent_channels)

    def forward(
        self,
        z: Float[Tensor, "batch noise"],
        words: Float[Tensor, "batch words text"],
        mask: Bool[Tensor, "batch words"],
        pooled: Float[Tensor, "batch text"],
    ) -> Float[Tensor, "batch channels height width"]:
        """Return the latents of `z`, given the states and the summary that a text encoder makes of captions."""
        style = self.to_style(torch.cat([z, functional.layer_norm(pooled, pooled.shape[-1:])], 1))
        words = _known(words, mask)
        x = self.places + self.to_places(z).unflatten(1, self.places.shape)
        for mixer, attention in zip(self.mixers, self.words, strict=True):
            x = x + attention(x, words, mask)
            x = mixer(x, style)
        cells = self.to_pixels(self.norm(x)).transpose(1, 2).unflatten(2, (self.side, self.side))
        return functional.pixel_shuffle(cells, PLACE)


class Eye(nn.Module):
    """What is seen in latents, all places at once."""

    def __init__(self, latent_channels: int, latent_size: int, width: int, layers: int, shared: int) -> None:
        super().__init__()
        places = (latent_size // PLACE) ** 2
        self.from_pixels = nn.Linear(PLACE**2 * latent_channels, width)
        self.places = nn.Parameter(torch.randn(places, width) / 5)
        self.mixers = nn.ModuleList(Mixer(width, places) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.to_shared = nn.Linear(places * width, shared)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch shared"]:
        """Return `shared` numbers of each."""
        x = self.from_pixels(functional.pixel_unshuffle(x, PLACE).flatten(2).transpose(1, 2)) + self.places
        for mixer in self.mixers:
            x = mixer(x)
        return self.to_shared(self.norm(x).flatten(1))


class Discriminator(ModelMixin, ConfigMixin):
    """D(x, c) = how real x is + how well it goes with c, the inner product of what it sees and what it reads.

    Source: Miyato and Koyama, arXiv:1802.05637, eq. 3.
    """

    @register_to_config
    def __init__(
        self,
        text_width: int = 64,
        text_length: int = 14,
        latent_channels: int = 8,
        latent_size: int = 8,
        width: int = 128,
        layers: int = 3,
        shared: int = 256,
    ) -> None:
        super().__init__()
        self.eye = Eye(latent_channels, latent_size, width, layers, shared)
        self.to_real = nn.Sequential(nn.LeakyReLU(SLOPE), nn.Linear(shared, 1))
        self.reads = _layers(text_length * text_width, 2 * shared, shared)
        self.log_scale = nn.Parameter(torch.tensor(2.3))

    def see(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch shared"]]:
        """Return how real latents are whatever they show, and what is seen in them."""
        seen = self.eye(x)
        return self.to_real(seen)[:, 0], seen

    def read(
        self, words: Float[Tensor, "batch words text"], mask: Bool[Tensor, "batch words"]
    ) -> Float[Tensor, "batch shared"]:
        """Return what is read of captions, of length 1."""
        return functional.normalize(self.reads(_known(words, mask).flatten(1)), dim=1)

    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        words: Float[Tensor, "batch words text"],
        mask: Bool[Tensor, "batch words"],
    ) -> Float[Tensor, " batch"]:
        """Return D(x, c)."""
        real, seen = self.see(x)
        return real + (seen * self.read(words, mask)).sum(1)


class Start(ModelMixin, ConfigMixin):
    """What z is drawn from, given a caption: N(mean(c), std(c)^2 I), and N(0, I) before anything was learnt."""

    @register_to_config
    def __init__(self, noise: int = 64, text_width: int = 64) -> None:
        super().__init__()
        self.mean, self.log_std = nn.Linear(text_width, noise), nn.Linear(text_width, 1)
        for layer in (self.mean, self.log_std):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, pooled: Float[Tensor, "batch text"]
    ) -> tuple[Float[Tensor, "batch noise"], Float[Tensor, " batch"]]:
        """Return mean and std."""
        known = functional.layer_norm(pooled, pooled.shape[-1:])
        return self.mean(known), self.log_std(known)[:, 0].exp()
