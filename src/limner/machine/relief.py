"""What to set when memory could not be had after all: a few keys that make the phase smaller, the cheapest first."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping

from limner.engine.device import resolve
from limner.machine.prices import BFLOAT16, CHECKPOINTING, CODED, ENCODED, HOST, flags, price
from limner.policies.denoising import Sampler
from limner.training.config import RunConfig

MOST = 3


def relief(config: RunConfig, phase: str, free: Container[str] | None = None) -> str:
    """Return flags that make less of a phase at once, and what each costs, three at most; "" if none is left.

    `free` are the keys that may be set; None: all. What a run has set already is not told again.
    """
    found = [keys for keys in _smaller(config, phase.split()[0]) if free is None or all(key in free for key in keys)]
    return ", or ".join(f"{flags(keys)} ({price(keys)})" for keys in found[:MOST])


def _smaller(config: RunConfig, phase: str) -> Iterator[Mapping[str, str]]:
    """Yield keys that make a phase take less, as far as they are not set."""
    card, model = resolve(config.device).type != "cpu", config.model
    if phase == "encode" and card and model.encoders == "device":
        yield ENCODED
    if phase == "decode" and model.decode_batch != 1:
        yield {"model.decode_batch": str(model.decode_batch // 2 or 1)}
    if phase == "decode" and card and model.vae == "device":
        yield {"model.vae": "cpu"}
    if phase not in ("encode", "loading"):
        yield from _halved(config)
    if isinstance(config.sampler, Sampler):
        if phase in ("rollout", "update") and card and config.algorithm.needs.path and config.sampler.keep == "device":
            yield HOST
        if phase == "update" and not config.precision.activation_checkpointing:
            yield CHECKPOINTING
    if phase == "loading" and card and model.encoders == "device":
        yield ENCODED
    if config.precision.dtype == "float32":
        yield BFLOAT16
    if not model.train.whole and model.quantize == "none":
        yield CODED
    if phase != "loading" and config.prompts_per_step > 1:
        yield {"prompts_per_step": str(config.prompts_per_step // 2)}


def _halved(config: RunConfig) -> Iterator[Mapping[str, str]]:
    least = 2 if config.algorithm.needs.pairs else 1
    if config.micro_batch > least:
        yield {"micro_batch": str(max(least, config.micro_batch // 2))}
