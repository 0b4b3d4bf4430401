"""Where a pipeline's autoencoder works, and in what pieces."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from limner.core.errors import UserError


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
