"""Where in a sample its advantage counts: maps of what stands out, brought to the latent and to mean 1."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

Orientation: TypeAlias = Literal["solver", "border"]
"""Which end of a principal component is the important one: whichever the solver returns, or that away from the edge."""


def principal_map(
    features: Float[Tensor, "batch frames rows columns channels"], components: int = 3, sign: Orientation = "border"
) -> Float[Tensor, "batch frames rows columns"]:
    """Return how far patches lie along the first principal components of a sample's own patches, in [0, 1].

        M(p) = sum_k l_k (1 - minmax(x(p) . u_k)) / sum_k l_k

    x are centred features, l_k and u_k the largest eigenvalues of their covariance, with their eigenvectors; minmax is
    over the patches of the sample. The sign of an eigenvector means nothing: by "solver" it is what the solver gave, so
    that the map may be that of the ground; by "border" the patches at the frame's edge lie lower, on average, than the
    others. A sample whose patches are all alike has the map 0.
    Source: ViPO, published code of TeleBoost (`vipo.py`), on features of DINOv2; "border" is ours.
    """
    batch, frames, rows, columns, channels = features.shape
    flat = features.reshape(batch, -1, channels).double()
    centred = flat - flat.mean(1, keepdim=True)
    variance, axes = torch.linalg.eigh(centred.mT @ centred)
    variance, axes = (part[..., -components:] for part in (variance, axes))
    along = -(centred @ axes)
    if sign == "border":
        edge = torch.ones(rows, columns, dtype=torch.bool)
        edge[1:-1, 1:-1] = False
        outer = edge.expand(frames, rows, columns).reshape(-1).to(flat.device)
        higher = along[:, outer].mean(1) > along.mean(1)
        along = torch.where(higher[:, None], -along, along)
    low, high = along.amin(1, keepdim=True), along.amax(1, keepdim=True)
    spread = torch.where(high > low, (along - low) / (high - low).clamp(min=1e-300), 0)
    share = variance.clamp(min=0) / variance.clamp(min=0).sum(-1, keepdim=True).clamp(min=1e-300)
    found = (spread * share[:, None]).sum(-1)
    even = variance.amax(-1) <= 1e-12 * flat.square().sum((1, 2))
    return found.masked_fill(even[:, None], 0).view(batch, frames, rows, columns).to(features.dtype)


def smoothed(
    maps: Float[Tensor, "batch frames rows columns"], sigma: float
) -> Float[Tensor, "batch frames rows columns"]:
    """Return each frame's map, blurred by a Gaussian of `sigma` cells; what lies outside repeats the edge."""
    if sigma == 0:
        return maps
    radius = max(1, round(3 * sigma))
    at = torch.arange(-radius, radius + 1, dtype=maps.dtype, device=maps.device)
    kernel = torch.exp(-((at / sigma) ** 2) / 2)
    kernel = kernel / kernel.sum()
    padded = functional.pad(maps, (radius,) * 4, mode="replicate").flatten(0, 1)[:, None]
    across = functional.conv2d(functional.conv2d(padded, kernel[None, None, None]), kernel[None, None, :, None])
    return across[:, 0].view(maps.shape)


def on_latent(
    maps: Float[Tensor, "batch frames rows columns"], shape: tuple[int, ...]
) -> Float[Tensor, "batch *latent"]:
    """Return maps on the grid of latents of `shape`, whose channels (an axis of length 1) all have the same.

    Latents of 3 axes are pictures (c h w), those of 4 clips (c t h w): see `by_block`. Raises ValueError for others.
    """
    if len(shape) not in (3, 4) or (len(shape) == 3 and maps.shape[1] != 1):
        raise ValueError(
            f"a map of {maps.shape[1]} frames has no place on latents of shape {shape}: pictures are channels, rows "
            "and columns, clips channels, times, rows and columns"
        )
    times = by_block(maps, shape[1]) if len(shape) == 4 else maps
    resized = functional.interpolate(times, shape[-2:], mode="bilinear", antialias=True, align_corners=False)
    return resized[:, None] if len(shape) == 4 else resized


def by_block(frames: Float[Tensor, "batch frames *cells"], times: int) -> Float[Tensor, "batch times *cells"]:
    """Return the mean over the frames that each time of a clip's latent stands for.

    A causal autoencoder's first time is the first frame alone, and each other one a block of (frames - 1) / (times - 1)
    frames; otherwise all blocks are equal. Where both may be (9 frames, 3 times), it is causal if its blocks are even,
    as halvings make them. Raises ValueError where frames do not divide so.
    """
    count = frames.shape[1]
    if count == times:
        return frames
    causal = times > 1 and (count - 1) % (times - 1) == 0
    if count % times == 0 and not (causal and (count - 1) // (times - 1) % 2 == 0):
        return frames.unflatten(1, (times, -1)).mean(2)
    if causal:
        later = frames[:, 1:].unflatten(1, (times - 1, -1)).mean(2)
        return torch.cat([frames[:, :1], later], 1)
    raise ValueError(f"{count} frames are no whole blocks of {times} times of a latent")


def by_segment(labels: Float[Tensor, " segments"], frames: int, length: int | None) -> Float[Tensor, " frames"]:
    """Return the label of each frame: of the segment that it lies in, each `length` frames long, or equal parts.

    Frame i of n equal parts of f frames is of part floor(i n / f). Raises ValueError where segments end before frames.
    """
    at = torch.arange(frames)
    part = at * len(labels) // frames if length is None else at // length
    if int(part[-1]) >= len(labels):
        raise ValueError(f"{len(labels)} segments of {length} frames are less than {frames} frames")
    return labels[part]


def to_mean_one(maps: Float[Tensor, "batch *latent"]) -> Float[Tensor, "batch *latent"]:
    """Return (m - min m) / mean(m - min m) of each sample; 0 everywhere for a map that is everywhere the same."""
    flat = maps.flatten(1)
    above = flat - flat.amin(1, keepdim=True)
    mean = above.mean(1, keepdim=True)
    return torch.where(mean > 0, above / mean.clamp(min=torch.finfo(mean.dtype).tiny), 0).view(maps.shape)


def redistributed(
    local: Float[Tensor, "batch *latent"], group: Int[Tensor, " batch"], valid: Bool[Tensor, " batch"]
) -> Float[Tensor, "batch *latent"]:
    """Return z(p) - mean over p of z, z(p) = (r(p) - mean of the group at p) / std of the group; 0 for invalid samples.

    The standard deviation is that of all places of the group's valid samples together, so that a place where all are
    nearly alike says little. Added to a sample's advantage it moves credit about, and makes none.
    """
    index: Tensor = torch.unique(group, return_inverse=True)[1]
    flat, shown = local.flatten(1), valid[:, None]
    exact = torch.where(shown, flat, 0).double()

    def total(x: Float[Tensor, "batch places"]) -> Float[Tensor, "batch places"]:
        return torch.zeros_like(x).index_add(0, index, x)[index]

    count = total(shown.double()).clamp(min=1)
    centred = torch.where(shown, exact - total(exact) / count, 0)
    std = (total(centred.square()).mean(1, keepdim=True) / count).sqrt()
    z = torch.where(std > 1e-9 * exact.abs().amax().clamp(min=1e-300), centred / std.clamp(min=1e-300), 0)
    return (z - z.mean(1, keepdim=True)).view(local.shape).to(local.dtype)
