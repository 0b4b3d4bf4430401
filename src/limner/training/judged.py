"""Pictures that were judged, as latents: each is read and encoded once, however often it was compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from limner.core.errors import UserError
from limner.core.media import Media
from limner.core.types import LatentSpec, Prompt
from limner.data.pairs import as_media, read_picture, read_shown
from limner.data.preferences import Broken, Preference


@dataclass(frozen=True)
class Judged:
    """Pictures made for one prompt, by their rows in a library, what each is worth, and the row of their region."""

    prompt: Prompt
    rows: tuple[int, ...]
    worth: tuple[float, ...]
    region: int = 0


@dataclass(frozen=True)
class Library:
    """The latents of pictures that were judged, and of what was said of them.

    `regions` are where pictures count, with mean 1 over a latent: the first is everywhere, and there may be no other.
    """

    latents: Float[Tensor, "pictures *latent"]
    regions: Float[Tensor, "regions *latent"]
    judged: Sequence[Judged]


def encoded(
    preferences: Sequence[Preference],
    encode: Callable[[Media], Tensor],
    size: tuple[int, ...],
    spec: LatentSpec,
    batch: int,
    broken: Broken = "refuse",
) -> tuple[Library, list[str]]:
    """Return the library of preferences, and the faults: pictures, or clips, cut to `size`, encoded `batch` at a time.

    Raises UserError for a picture or mask that cannot be read, unless `broken` ones are skipped.
    """
    rows: dict[Path | bytes, int] = {}
    latents: list[Tensor] = []
    waiting: list[Tensor] = []

    def flush() -> None:
        if waiting:
            with torch.no_grad():
                latents.append(encode(as_media(waiting)))
            waiting.clear()

    regions = [torch.ones(spec.shape)]
    judged: list[Judged] = []
    faults: list[str] = []
    for each in preferences:
        try:
            for picture in each.pictures:
                if picture not in rows:
                    waiting.append(read_shown(picture, size))
                    rows[picture] = len(rows)
            if each.mask is not None:
                regions.append(region_of(each.mask, size[-2:], spec))
        except UserError as error:
            if broken == "refuse":
                raise UserError(f"{each.where}: {error}") from error
            faults.append(f"{each.where}: {error}")
            continue
        here = len(regions) - 1 if each.mask is not None else 0
        judged.append(Judged(each.prompt, tuple(rows[picture] for picture in each.pictures), each.worth, here))
        if len(waiting) >= batch:
            flush()
    flush()
    if not judged:
        raise UserError(f"no preference is left: {faults[0]}")
    return Library(torch.cat(latents), torch.stack(regions).to(latents[0]), judged), faults


def region_of(mask: Path, size: tuple[int, ...], spec: LatentSpec) -> Float[Tensor, "*latent"]:
    """Return how much each element of a latent counts, with mean 1: the mask's brightness where it stands.

    Raises UserError for a mask that is dark everywhere, and for latents that are no pictures.
    """
    if len(spec.shape) != 3:
        raise UserError(f"masks need latents of channels, rows and columns, but these have the shape {spec.shape}")
    bright = read_picture(mask, *size).mean(0, keepdim=True)
    small = adaptive_avg_pool2d(bright, spec.shape[1:])
    if float(small.mean()) < 1e-3:
        raise UserError(f"mask {mask} is dark everywhere: nothing of the pictures would count")
    return (small / small.mean()).expand(spec.shape)
