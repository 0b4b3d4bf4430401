"""What published checkpoints are made of, as their own files have it: enough to count and to plan without them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Part:
    """A network of a pipeline: the class of its library that it is of, and what of its configuration is no default.

    `parameters` are how many such a network has, as its library makes it.
    """

    kind: str
    parameters: int
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """A checkpoint: where it is, under which licence, and its parts; `recipe` is the one of limner's that trains it.

    Where it has several `experts` each is such a network, for its own times, and all are there at once.
    `latent` is the shape at the size that the pipeline draws unless it is told otherwise, of whose pixels each is
    `cell` of the picture's wide.
    """

    hub: str
    licence: str
    prediction: str
    network: Part
    autoencoder: Part
    encoders: tuple[Part, ...]
    latent: tuple[int, ...]
    cell: int = 8
    recipe: str = ""
    experts: int = 1
    sight: Part | None = None
    """What sees the pictures that prompts bring along."""
    miniature: Callable[[], Any] | None = None
    """Makes a small pipeline of the same class and parts; None: its kind's own does."""

    @property
    def predicting(self) -> int:
        """Parameters of all that predicts."""
        return self.experts * self.network.parameters


def miniature(module: str, *arguments: str, by: str = "tiny_pipeline") -> Callable[[], Any]:
    """Return what makes the miniature of a module, by its function of that name; it is imported only then."""
    return lambda: vars(importlib.import_module(module))[by](*arguments)


CLIP_L = Part(
    "CLIPTextModel",
    123_060_480,
    {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
)
CLIP_H = Part(
    "CLIPTextModel",
    340_387_840,
    {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16},
)
CLIP_G = Part(
    "CLIPTextModelWithProjection",
    694_659_840,
    {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 20,
        "projection_dim": 1280,
    },
)
T5_XXL = Part(
    "T5EncoderModel",
    4_762_310_656,
    {
        "d_model": 4096,
        "d_ff": 10240,
        "num_layers": 24,
        "num_heads": 64,
        "d_kv": 64,
        "vocab_size": 32128,
        "feed_forward_proj": "gated-gelu",
    },
)
"""Text encoders that many kinds share: OpenAI's CLIP ViT-L/14, OpenCLIP's ViT-H and ViT-bigG, and T5 v1.1 XXL."""

GEMMA_2B = Part(
    "Gemma2Model",
    2_614_341_888,
    {
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 256000,
    },
)
"""Gemma 2 of 2 billion, without what it writes by."""

QWEN3_4B = Part(
    "Qwen3Model",
    4_022_468_096,
    {
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
    },
)
"""The language model, with what it writes by or without: the two share their weights."""

QWEN_VL_7B = Part(
    "Qwen2_5_VLForConditionalGeneration",
    8_292_166_656,
    {
        "text_config": {
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "vocab_size": 152064,
            "tie_word_embeddings": False,
        },
        "vision_config": {
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": 3584,
        },
    },
)
"""The language model that sees, with what it writes by."""


def autoencoder(latent_channels: int, quant: bool) -> Part:
    """Return the autoencoder of Stable Diffusion's line, with so many latent channels, and with or without `quant`."""
    return Part(
        "AutoencoderKL",
        {4: 83_653_863, 16: 83_819_683}[latent_channels],
        {
            "block_out_channels": [128, 256, 512, 512],
            "down_block_types": ["DownEncoderBlock2D"] * 4,
            "up_block_types": ["UpDecoderBlock2D"] * 4,
            "layers_per_block": 2,
            "latent_channels": latent_channels,
            "use_quant_conv": quant,
            "use_post_quant_conv": quant,
        },
    )
