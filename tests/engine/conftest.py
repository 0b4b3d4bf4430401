from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch
from diffusers import SD3Transformer2DModel
from torch import nn

from limner.core.media import Images
from limner.core.types import LatentSpec
from limner.diffusion.schedule import RectifiedFlow

TARGETS = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "attn.add_q_proj", "attn.add_k_proj")


@dataclass(frozen=True)
class Toy:
    """A model adapter around an SD3 transformer, with encodings and media that are easy to recognise."""

    networks: Mapping[str, nn.Module]
    schedule = RectifiedFlow()
    prediction = "velocity"

    def encode(self, prompts):
        return {"length": torch.tensor([*(len(prompt.text) for prompt in prompts), 0])}

    def decode(self, sample):
        return Images(sample[:, :3])

    def latent(self):
        return LatentSpec((4, 4, 4), torch.float32, torch.device("cpu"))

    def times(self, steps, grid="own"):
        return torch.linspace(1, 0, steps + 1)

    def with_networks(self, networks):
        return Toy(networks)

    def predict(self, x, t, condition, prompt_index):
        network = self.networks["transformer"]
        text, pooled = condition["text"][prompt_index], condition["pooled"][prompt_index]
        return network(x, text, pooled, t, return_dict=False)[0].float()


@pytest.fixture
def toy():
    torch.manual_seed(0)
    network = SD3Transformer2DModel(
        sample_size=4,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=16,
        pooled_projection_dim=16,
        pos_embed_max_size=4,
        qk_norm="rms_norm",
    )
    nn.init.normal_(network.norm_out.linear.weight, std=0.3)
    return Toy({"transformer": network})


@pytest.fixture
def inputs():
    """Return the arguments of `predict`: three samples of two prompts."""
    generator = torch.Generator().manual_seed(1)
    text, pooled = torch.randn(2, 5, 16, generator=generator), torch.randn(2, 16, generator=generator)
    x, t = torch.randn(3, 4, 4, 4, generator=generator), torch.tensor([900.0, 500.0, 20.0])
    return x, t, {"text": text, "pooled": pooled}, torch.tensor([0, 1, 1])


@pytest.fixture
def targets():
    return TARGETS


@pytest.fixture
def train(inputs):
    """Return a function that takes a few plain gradient steps on what `weights` trains."""

    def run(weights, actor, steps=3):
        optimizer = torch.optim.SGD(weights.parameters().values(), lr=0.1)
        for _ in range(steps):
            optimizer.zero_grad()
            (actor.predict(*inputs) - 1).square().mean().backward()
            optimizer.step()

    return run
