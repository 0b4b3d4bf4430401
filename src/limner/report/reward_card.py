"""What a reward is, for a person who is about to trust it."""

from __future__ import annotations

import math
import textwrap

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

WIDTH, LABEL = 100, 14


def reward_card(spec: RewardSpec) -> str:
    """Return what is measured, in which range, from which source, and what the score depends on."""
    scale = "any number" if math.isinf(spec.low) and math.isinf(spec.high) else f"{spec.low:g} to {spec.high:g}"
    weights = f"weights {spec.weights_licence}" if spec.weights_licence else "no weights"
    gives = "gradients reach the pixels" if spec.differentiable else "no gradients"
    repeats = "the same every time" if spec.deterministic else "not the same every time"
    rows = [
        ("measures", spec.about),
        ("score", f"{scale}{' ' + spec.unit if spec.unit else ''}; higher is better"),
        ("reads", ", ".join(["the media (axes " + ", ".join(spec.axes) + ")", *spec.needs])),
        *((f".{name}", meaning) for name, meaning in spec.components.items()),
        *((f"map {name}", meaning) for name, meaning in spec.maps.items()),
        ("properties", f"{gives}; {repeats}"),
        ("source", spec.source),
        ("licence", f"code {spec.code_licence}; {weights}"),
        ("version", spec.version),
    ]
    lines = [spec.name]
    across = max(LABEL, *(len(label) + 2 for label, text in rows if text))
    for label, text in rows:
        if text:
            wrapped = textwrap.wrap(text, WIDTH - across - 2, break_long_words=False)
            lines += [f"  {label:<{across}}{wrapped[0]}", *(f"  {'':<{across}}{line}" for line in wrapped[1:])]
    return "\n".join(lines)


def extremes(score: Float[Tensor, " batch"], count: int) -> Int[Tensor, " rows"]:
    """Return the rows of the `count` best, best first, and then the `count` worst, worst last; none twice."""
    judged = score.isfinite().nonzero()[:, 0]
    order = judged[score[judged].argsort(descending=True, stable=True)]
    count = min(count, len(order) // 2)
    return torch.cat([order[:count], order[len(order) - count :]])


def lit(
    pictures: UInt8[Tensor, "batch 3 height width"], maps: Float[Tensor, "batch rows columns"]
) -> UInt8[Tensor, "batch 3 height width"]:
    """Return the pictures as bright as their maps: a quarter as bright at the lowest value of all maps, or NaN."""
    known = maps.nan_to_num(nan=math.inf).amin()
    span = (maps.nan_to_num(nan=-math.inf).amax() - known).clamp_min(1e-12)
    share = ((maps - known) / span).nan_to_num(nan=0.0)[:, None]
    light = 0.25 + 0.75 * interpolate(share, pictures.shape[-2:], mode="nearest")
    return (pictures * light).round().to(torch.uint8)
