"""What models of pictures share of their settings: how large a picture is, and what it is not to show."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from limner.core.errors import UserError
from limner.core.settings import Range

if TYPE_CHECKING:
    import torch

    from limner.core.protocols import Adapter
    from limner.core.types import Source

Pixels: TypeAlias = Annotated[int, Range(least=1, most=65_536)]
"""A side of a picture."""


def sides(
    resolution: int | None, width: int | None, own: tuple[int, int], multiple: int, most: int | None = None
) -> tuple[int, int]:
    """Return height and width in pixels: the model's `own` where nothing is set; a `width` of None is the height.

    Raises UserError for one that is no `multiple`, or larger than `most`.
    """
    height = own[0] if resolution is None else resolution
    if width is None:
        width = own[1] if resolution is None else height
    for name, pixels in (("resolution", height), ("width", width)):
        if pixels <= 0 or pixels % multiple:
            raise UserError(f"model: {name} is {pixels} pixels; give a multiple of {multiple}")
        if most is not None and pixels > most:
            raise UserError(f"model: {name} is {pixels} pixels; this network has places for {most} at most")
    return height, width


def arguments(resolution: int | None, width: int | None, negative_prompt: str) -> dict[str, Any]:
    """Return the arguments of a diffusers pipeline for the same picture; what is not set is left to the pipeline."""
    asked = {"height": resolution, "width": resolution if width is None else width}
    return {name: value for name, value in asked.items() if value is not None} | (
        {"negative_prompt": negative_prompt} if negative_prompt else {}
    )


def truly_guided(sampler: Mapping[str, Any], negative_prompt: str) -> dict[str, Any]:
    """Return the sampler's arguments for a pipeline whose `guidance_scale` is no classifier-free guidance.

    Such a one guides by `true_cfg_scale`, and only where it is given a negative prompt, be it an empty one.
    """
    asked = dict(sampler)
    scale = asked.pop("guidance_scale", 1)
    return asked | ({"true_cfg_scale": scale, "negative_prompt": negative_prompt} if scale > 1 else {})


def unguided(sampler: Mapping[str, Any], pipeline: str) -> dict[str, Any]:
    """Return the sampler's arguments for a pipeline whose `guidance_scale` is what its network is told, and no more.

    Raises UserError for a sampler that guides, for such a `pipeline` cannot.
    """
    scale = sampler.get("guidance_scale", 1)
    if scale != 1:
        raise UserError(
            f"model: sampler.guidance is {scale}, and a {pipeline} does not guide: its network is told "
            "model.settings.guidance; set sampler.guidance to 1"
        )
    return {name: value for name, value in sampler.items() if name != "guidance_scale"}


def piped(family: str, source: Source, settings: Any, dtype: torch.dtype, device: torch.device) -> Adapter:
    """Return the adapter of a folder, a hub id, or a copy of a pipeline in memory; `family` is MODULE:NAME.

    It is named, for families know their settings, and import diffusers.
    """
    shared = importlib.import_module("limner.models.piped").Piped
    return shared.load(_named(family), source, settings, dtype, device)


def multimodal(
    dialect: str, source: str | Path | Pipeline, settings: Any, dtype: torch.dtype, device: torch.device
) -> Adapter:
    """Return the adapter of a folder or hub id of a multimodal language model; `dialect` is MODULE:NAME."""
    shared = importlib.import_module("limner.models.multimodal").Multimodal
    return shared.load(_named(dialect), source, settings, dtype, device)


def _named(name: str) -> Any:
    module, _, member = name.partition(":")
    return vars(importlib.import_module(module))[member]
