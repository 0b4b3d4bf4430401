"""What models of pictures share of their settings: how large a picture is, and what it is not to show."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from limner.core.errors import UserError
from limner.core.settings import Range

Pixels: TypeAlias = Annotated[int, Range(least=1, most=65_536)]
"""A side of a picture."""


def sides(resolution: int | None, width: int | None, own: int, multiple: int, most: int | None = None) -> list[int]:
    """Return height and width in pixels; `own` is the model's own side, None of `width` means as high.

    Raises UserError for one that is no `multiple`, or larger than `most`.
    """
    height = own if resolution is None else resolution
    for name, pixels in (("resolution", height), ("width", height if width is None else width)):
        if pixels <= 0 or pixels % multiple:
            raise UserError(f"model: {name} is {pixels} pixels; give a multiple of {multiple}")
        if most is not None and pixels > most:
            raise UserError(f"model: {name} is {pixels} pixels; this network has places for {most} at most")
    return [height, height if width is None else width]


def arguments(resolution: int | None, width: int | None, negative_prompt: str) -> dict[str, Any]:
    """Return the arguments of a diffusers pipeline for the same picture; what is not set is left to the pipeline."""
    asked = {"height": resolution, "width": resolution if width is None else width}
    return {name: value for name, value in asked.items() if value is not None} | (
        {"negative_prompt": negative_prompt} if negative_prompt else {}
    )
