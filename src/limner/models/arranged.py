"""Where a pipeline's autoencoder works, and in what pieces."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from limner.core.errors import UserError
from limner.core.protocols import Adapter


@runtime_checkable
class OfPipeline(Protocol):
    """An adapter around a pipeline of diffusers."""

    pipeline: Any


@runtime_checkable
class Tiled(Protocol):
    """An autoencoder that can take a picture in tiles, blended where they meet."""

    def enable_tiling(self) -> None: ...


def arrange_autoencoder(model: object, place: str, tiling: bool) -> None:
    """Have a model's autoencoder on the "cpu", or where the rest is ("device"), and take pictures in tiles or whole.

    Raises UserError for a model that has none, and one that knows no tiles.
    """
    if not isinstance(model, OfPipeline):
        raise UserError("model.vae and model.vae_tiling are of pipelines of diffusers; this model has none: leave them")
    vae = model.pipeline.vae
    if tiling:
        if not isinstance(vae, Tiled):
            raise UserError(f"model.vae_tiling: a {type(vae).__name__} takes pictures whole; leave it out")
        vae.enable_tiling()
    if place == "cpu":
        vae.to("cpu")


def follow(model: Adapter, device: torch.device, place: str, key: str) -> None:
    """Bring to a device what is not there yet of a model whose networks are: its autoencoder, unless `place` is "cpu".

    Text encoders go there when they encode. Raises UserError, which names the `key`, for a model that is no pipeline.
    """
    if not isinstance(model, OfPipeline):
        raise UserError(f"{key} is of pipelines of diffusers, and this model is none: leave it out")
    for name, part in model.pipeline.components.items():
        there = name in model.networks or name.startswith("text_encoder") or (name == "vae" and place == "cpu")
        if isinstance(part, nn.Module) and not there:
            part.to(device)
