"""Layout: the colours that the prompt's `meta` wants, where it wants them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.linalg import vector_norm

from limner.core.errors import UserError, nearest
from limner.core.media import Media
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.judging.spec import coarse, declare

COLOURS = {
    "black": "#000000",
    "white": "#ffffff",
    "grey": "#808080",
    "red": "#ff0000",
    "orange": "#ffa500",
    "yellow": "#ffff00",
    "green": "#008000",
    "blue": "#0000ff",
    "purple": "#800080",
    "pink": "#ffc0cb",
    "brown": "#a52a2a",
}
"""The eleven basic colour terms as CSS knows them."""
REGIONS = {
    "all": (0.0, 0.0, 1.0, 1.0),
    "left": (0.0, 0.0, 0.5, 1.0),
    "right": (0.5, 0.0, 1.0, 1.0),
    "top": (0.0, 0.0, 1.0, 0.5),
    "bottom": (0.0, 0.5, 1.0, 1.0),
    "centre": (0.25, 0.25, 0.75, 0.75),
}
"""Boxes x0, y0, x1, y1 as shares of width and height, from the top left corner."""

MOST_ENTRIES = 64
"""Regions that one picture may be asked for."""


@declare(
    RewardSpec(
        "layout",
        "how near the colours in the regions of the picture are to those that meta.layout wants there",
        low=0.0,
        high=1.0,
        needs=("meta.layout",),
        components={"worst": "0 to 1: the region that is farthest from its colour"},
        maps={"nearness": "0 to 1 in wanted regions, their mean where they overlap; NaN where nothing is wanted"},
        differentiable=True,
        source="distance in sRGB",
    )
)
def layout(media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
    """Return the mean over wanted regions of 1 - mean |x - c| / d(c), and over frames, in [0, 1].

    x are the region's pixels, c its colour, |.| the Euclidean distance in sRGB, and d(c) the greatest that any colour
    has from c: 1 is exactly that colour everywhere, 0 the farthest one. `meta["layout"]` is a list of
    `{"colour": COLOUR, "region": REGION}`: a colour is a name (red) or "#rrggbb"; a region is a name (left) or a box
    [x0, y0, x1, y1] in shares of width and height. A prompt without a layout cannot be judged.
    Raises UserError, naming the prompt, for an entry of another form and for a region that holds no pixel.
    """
    frames = media.frames()
    scores, worst, valid, maps = [], [], [], []
    for sample, prompt in zip(frames, prompts, strict=True):
        wanted = prompt.meta.get("layout", [])
        if not isinstance(wanted, Sequence) or len(wanted) > MOST_ENTRIES:
            raise UserError(f"prompt {prompt.text!r:.100}: meta.layout is a list of {MOST_ENTRIES} entries at most")
        total, count = frames.new_zeros(2, 1, *frames.shape[-2:])
        marks = []
        for entry in wanted:
            rows, columns, near = _nearness(sample, entry, prompt.text)
            total[0, rows, columns] += near.detach().mean(0)
            count[0, rows, columns] += 1
            marks.append(near.mean())
        marks = marks or [frames.new_tensor(torch.nan)]
        scores.append(torch.stack(marks).mean())
        worst.append(torch.stack(marks).min())
        valid.append(len(wanted) > 0)
        maps.append(coarse(total) / coarse(count))
    return RewardOutput(
        torch.stack(scores),
        torch.tensor(valid, device=frames.device),
        {"worst": torch.stack(worst).detach()},
        maps={"nearness": torch.cat(maps)},
    )


def _nearness(
    sample: Float[Tensor, "frames 3 height width"], entry: Mapping[str, Any], text: str
) -> tuple[slice, slice, Float[Tensor, "frames rows columns"]]:
    """Return the rows and columns of one entry's region, and 1 - |x - c| / d(c) there."""
    if not isinstance(entry, Mapping) or entry.keys() != {"colour", "region"}:
        raise UserError(f'prompt {text!r}: each entry of meta.layout is {{"colour": ..., "region": ...}}, got {entry}')
    colour = sample.new_tensor(_colour(entry["colour"], text))
    x0, y0, x1, y1 = _box(entry["region"], text)
    height, width = sample.shape[-2:]
    rows = slice(round(y0 * height), round(y1 * height))
    columns = slice(round(x0 * width), round(x1 * width))
    pixels = sample[:, :, rows, columns]
    if pixels.numel() == 0:
        raise UserError(
            f"prompt {text!r}: the region {entry['region']} of meta.layout holds no pixel of {width}x{height}"
        )
    farthest = vector_norm(torch.maximum(colour, 1 - colour))
    return rows, columns, 1 - vector_norm(pixels - colour[:, None, None], dim=1) / farthest


def _colour(colour: Any, text: str) -> tuple[float, ...]:
    """Return R, G, B in [0, 1] of a colour's name or #rrggbb."""
    code = COLOURS.get(str(colour), str(colour))
    if not re.fullmatch("#[0-9a-fA-F]{6}", code):
        raise UserError(f"prompt {text!r}: meta.layout: no colour {colour!r}, write #rrggbb{nearest(code, COLOURS)}")
    return tuple(int(code[start : start + 2], 16) / 255 for start in (1, 3, 5))


def _box(region: Any, text: str) -> tuple[float, ...]:
    """Return x0, y0, x1, y1 of a region's name or box."""
    if isinstance(region, str):
        if region not in REGIONS:
            raise UserError(f"prompt {text!r}: meta.layout: no region {region!r}{nearest(region, REGIONS)}")
        return REGIONS[region]
    numbers = tuple(region) if isinstance(region, Sequence) else ()
    good = len(numbers) == 4 and all(isinstance(n, (int, float)) and 0 <= n <= 1 for n in numbers)
    if not good or numbers[0] >= numbers[2] or numbers[1] >= numbers[3]:
        raise UserError(f"prompt {text!r}: meta.layout: a box is [x0, y0, x1, y1], growing, in [0, 1], got {region}")
    return numbers
