"""Pictures and clips that were judged, as latents: each is read and encoded once, however often it was compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from limner.core.errors import UserError
from limner.core.media import Media
from limner.core.protocols import Algorithm
from limner.core.types import LatentSpec, Prompt
from limner.data.pairs import as_media, lasts_longer, read_picture, read_shown
from limner.data.preferences import Broken, Preference
from limner.objectives.focus import by_block, by_segment


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

    `regions` are where pictures count, with mean 1 over a latent, or the labels of segments of clips, an axis of length
    1 being alike along it: the first is everywhere, and there may be no other.
    """

    latents: Float[Tensor, "pictures *latent"]
    regions: Float[Tensor, "regions *where"]
    judged: Sequence[Judged]


def require_pairing(algorithm: Algorithm, what: str, unpair: bool) -> None:
    """Refuse pairs, which `what` are, for an algorithm that learns from single pictures, unless they are unpaired.

    Refuse to unpair them, too, for one that compares.
    """
    name, needs = type(algorithm).__name__, algorithm.needs
    if needs.group and unpair:
        raise UserError(
            f"{name} learns from which of two pictures is better, and source.unpair makes single ones of pairs: leave "
            "it out, or take KTO, which learns from single ones"
        )
    if needs.divide is not None and not unpair:
        raise UserError(
            f"{name} learns from single pictures that are liked or not, but {what} pairs, which say what is better and "
            "not what is good: take DPO, or, to read the better picture of each as liked and the worse one as not, "
            "give --source.unpair true"
        )


def teaching(
    preferences: Sequence[Preference], algorithm: Algorithm, data: str, segments: bool = True, unpair: bool = False
) -> Sequence[Preference]:
    """Return the preferences of `data` as they are learned from: without `segments` each is one of whole clips.

    Raises UserError if the algorithm can learn nothing from any of them, or learns from single pictures and there are
    pairs, which it may not `unpair`.
    """
    name, needs = type(algorithm).__name__, algorithm.needs
    if not segments:
        preferences = [replace(each, segments=None) for each in preferences]
    if not needs.segments and any(each.segments is not None for each in preferences):
        raise UserError(
            f"{name} learns from clips as a whole, and {data} says of their segments which is better: take DPO with "
            "loss sigmoid, or --source.segments false"
        )
    if several := sum(len(each.pictures) > 1 for each in preferences):
        require_pairing(algorithm, f"{several} of {len(preferences)} rows of {data} are", unpair)
    if needs.group and not any(each.tells_apart for each in preferences):
        raise UserError(
            f"{name} learns from a better and a worse picture of one prompt, but {data} has no such pair: take "
            "KTO, which learns from single pictures that are liked or not, or collect pairs"
        )
    worth = [each for preference in preferences for each in preference.worth if each != needs.divide]
    if needs.divide is not None and (not worth or (min(worth) > needs.divide) == (max(worth) > needs.divide)):
        kind = "worth what divides them" if not worth else "wanted" if worth[0] > needs.divide else "unwanted"
        raise UserError(
            f"{name} learns from wanted pictures beside unwanted ones, but all of {data} are {kind} (the line "
            f"is at {needs.divide:g}): collect the other kind too, move algorithm.threshold, or, to imitate what is "
            "wanted, take RewardWeighted with weight reward"
        )
    return preferences


def encoded(
    preferences: Sequence[Preference],
    encode: Callable[[Media], Tensor],
    size: tuple[int, ...],
    spec: LatentSpec,
    batch: int,
    broken: Broken = "refuse",
) -> tuple[Library, list[str]]:
    """Return the library of preferences, and the faults: pictures, or clips, cut to `size`, encoded `batch` at a time.

    Of a pair whose segments were judged the first clip is the better one, as far as labels say so. Raises UserError for
    a picture, mask or segments that cannot be read, unless `broken` ones are skipped.
    """
    rows: dict[Path | bytes, int] = {}
    latents: list[Tensor] = []
    waiting: list[Tensor] = []

    def flush() -> None:
        if waiting:
            with torch.no_grad():
                latents.append(encode(as_media(waiting)))
            waiting.clear()

    regions = [torch.ones(_where(spec))]
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
            if each.segments is not None:
                regions.append(labels_of(each, size, spec))
        except UserError as error:
            if broken == "refuse":
                raise UserError(f"{each.where}: {error}") from error
            faults.append(f"{each.where}: {error}")
            continue
        here = len(regions) - 1 if each.mask is not None or each.segments is not None else 0
        worth = each.worth if each.segments is None else (1.0, 0.0) if each.tells_apart else (0.5, 0.5)
        judged.append(Judged(each.prompt, tuple(rows[picture] for picture in each.pictures), worth, here))
        if len(waiting) >= batch:
            flush()
    flush()
    if not judged:
        raise UserError(f"no preference is left: {faults[0]}")
    return Library(torch.cat(latents), torch.stack(regions).to(latents[0]), judged), faults


def _where(spec: LatentSpec) -> tuple[int, ...]:
    """Return the axes along which regions differ: rows and columns of pictures, times of clips."""
    channels, *axes = spec.shape
    return (1, axes[0], *(1 for _ in axes[1:])) if len(axes) == 3 else (1, *axes)


def region_of(mask: Path, size: tuple[int, ...], spec: LatentSpec) -> Float[Tensor, "*where"]:
    """Return how much each element of a latent counts, with mean 1: the mask's brightness where it stands.

    Raises UserError for a mask that is dark everywhere, and for latents that are no pictures.
    """
    if len(spec.shape) != 3:
        raise UserError(f"masks need latents of channels, rows and columns, but these have the shape {spec.shape}")
    bright = read_picture(mask, *size).mean(0, keepdim=True)
    small = adaptive_avg_pool2d(bright, spec.shape[1:])
    if float(small.mean()) < 1e-3:
        raise UserError(f"mask {mask} is dark everywhere: nothing of the pictures would count")
    return small / small.mean()


def labels_of(preference: Preference, size: tuple[int, ...], spec: LatentSpec) -> Float[Tensor, "*where"]:
    """Return the label of each time of a clip's latent: the mean over the frames that it stands for.

    Raises UserError where the segments have no place on the frames that are read, or on the latent.
    """
    segments = preference.segments
    assert segments is not None
    if len(spec.shape) != 4 or len(size) != 3:
        raise UserError(f"segments are parts of clips, and these are pictures, of latents of shape {spec.shape}")
    frames, labels = size[0], torch.tensor(segments.labels, dtype=torch.float32)
    if segments.frames is None and any(lasts_longer(each, frames) for each in preference.pictures):
        raise UserError(
            f"a clip is longer than the {frames} frames that count, so that its {len(labels)} segments are no equal "
            "parts of these: say how many frames a segment has, in a column segment_frames"
        )
    try:
        return by_block(by_segment(labels, frames, segments.frames)[None], spec.shape[1]).view(_where(spec))
    except ValueError as error:
        raise UserError(str(error)) from error
