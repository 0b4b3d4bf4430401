"""What frozen networks see of a picture, patch by patch."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from limner.core.errors import UserError
from limner.judging.efficientnet import patch_features
from limner.rewards.vision.preprocess import IMAGENET, normalised, resampled
from limner.rewards.vision.weights import pretrained

EFFICIENTNET = "efficientnet"
"""The network whose weights are in a package; every other name is a folder or hub id of a vision transformer."""


def patches(
    network: str, pixels: Float[Tensor, "batch 3 height width"], edge: int = 224
) -> Float[Tensor, "batch rows columns channels"]:
    """Return the features of a picture's patches, seen whole at `edge` pixels a side; differentiable.

    Source: DINOv2 (arXiv 2304.07193), or another transformer of transformers' whose last tokens are a square of
    patches, as ViPO takes it; EfficientNet-Lite0 has 14 patches a side at 224 pixels. Raises UserError for others.
    """
    if network == EFFICIENTNET:
        return patch_features(pixels, edge)
    model = pretrained("patches", "AutoModel", network).to(pixels.device)
    tokens = model(pixel_values=normalised(resampled(pixels.float(), edge, edge), IMAGENET)).last_hidden_state
    side = edge // model.config.patch_size
    if tokens.shape[1] < side**2:
        raise UserError(f"patches: {network!r} has no {side} x {side} patches of a picture at {edge} pixels")
    return tokens[:, -(side**2) :].unflatten(1, (side, side))
