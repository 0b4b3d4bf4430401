"""Instances in a picture, by transformers' Mask2Former: class, score, box and mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import interpolate, pad

from limner.rewards.vision.preprocess import IMAGENET, normalised, resampled

LONGEST, DIVISOR, KEPT = 1333, 32, 100
"""At most so many pixels on the longer edge; edges are multiples of 32; the best 100 pairs of query and class."""


@dataclass(frozen=True)
class Instance:
    """One found thing: its class, how sure the network is, its box x0, y0, x1, y1 in pixels, and its pixels."""

    label: str
    score: float
    box: tuple[float, float, float, float]
    mask: Bool[Tensor, "height width"]


@torch.no_grad()
def instances(model: Any, picture: Float[Tensor, "3 height width"], resize: int) -> list[Instance]:
    """Return the instances that a Mask2FormerForUniversalSegmentation finds, the surest first; empty masks are none.

    The shorter edge becomes `resize` pixels. A query's score for a class is its probability times the mean of its
    mask's sigmoid inside the mask (arXiv 2112.01527, section 4.1, as in the authors' inference).
    """
    height, width = picture.shape[-2:]
    scale = min(resize / min(height, width), LONGEST / max(height, width))
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    seen = normalised(resampled(picture[None].float(), rows, columns, "bilinear"), IMAGENET)
    output = model(pixel_values=pad(seen, (0, -columns % DIVISOR, 0, -rows % DIVISOR)))
    probabilities = output.class_queries_logits[0].softmax(-1)[:, :-1]
    best = probabilities.flatten().topk(min(KEPT, probabilities.numel()))
    padded = (rows + -rows % DIVISOR, columns + -columns % DIVISOR)
    logits = interpolate(output.masks_queries_logits[:1], padded, mode="bilinear", align_corners=False)
    logits = interpolate(logits[..., :rows, :columns], (height, width), mode="bilinear", align_corners=False)[0]
    found = []
    for probability, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        query, label = divmod(place, probabilities.shape[1])
        mask = logits[query] > 0
        if mask.any():
            score = probability * logits[query][mask].sigmoid().mean().item()
            found.append(Instance(model.config.id2label[label], score, _box(mask), mask))
    return sorted(found, key=lambda instance: -instance.score)


def _box(mask: Bool[Tensor, "height width"]) -> tuple[float, float, float, float]:
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
