"""What can be set so that a run takes less memory, and what each costs."""

from __future__ import annotations

from collections.abc import Mapping

CHECKPOINTING = {"precision.activation_checkpointing": "true"}
BFLOAT16 = {"precision.dtype": "bfloat16"}
CODED = {"model.quantize": "nf4"}
HOST = {"sampler.keep": "host"}
SHARD = {"shard": "all"}
TILED = {"model.vae_tiling": "true"}
AWAY = {"model.offload": "blocks"}
ENCODED = {"model.encoders": "cpu"}


def flags(keys: Mapping[str, str]) -> str:
    """Return keys as they are typed."""
    return " ".join(f"--{key} {value}" for key, value in keys.items())


def price(keys: Mapping[str, str]) -> str:
    """Return what keys cost, dearest first."""
    prices = {
        "model.settings.resolution": "smaller pictures",
        "prompts_per_step": "fewer groups an iteration: another run",
        "model.vae": "pictures decoded on the CPU, which takes far longer",
        "model.encoders": "each prompt encoded once on the CPU",
        "model.offload": "blocks of the frozen base cross over in each pass",
        "model.quantize": "the frozen base in 4 bits, rounded",
        "precision.dtype": "networks in bfloat16",
        "precision.activation_checkpointing": "a forward pass more in the update",
        "model.vae_tiling": "pictures decoded in tiles, blended where they meet",
        "shard": "weights in parts, which each pass brings together",
        "sampler.keep": "decisions wait in the machine's memory, and cross over twice",
        "micro_batch": "more, smaller passes",
        "model.decode_batch": "fewer samples decoded at once",
    }
    return ", ".join(price for key, price in prices.items() if key in keys)
