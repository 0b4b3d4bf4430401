"""Pictures as files and as data URIs: 8-bit, labelled, in grids."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from limner.core.media import levels, to_image
from limner.core.paths import whole
from limner.core.picture import at_even_distances, decoded_clip, paced
from limner.report.data import Picture

TILE = 128
"""Pixels: smaller pictures are enlarged by a whole factor to at least this, so that a label fits below."""
GAP, LABEL, FONT = 8, 18, 12
PAPER, INK = (255, 255, 255), (70, 70, 75)
PNG_SIDE = 160
"""Pixels: up to this side a picture stands in a page as PNG, exact; a larger one as WebP."""
MOVING = (".webp", ".gif")
MOVING_BYTES = 2**19
"""A page holds some dozens of them."""
LIGHTER = ((320, 70), (224, 60), (160, 40))
"""Longest side in pixels, and quality, of a heavier one: the first is shown that is light enough, or the last."""
STRIP = 5
"""Frames of a clip that stand side by side in a grid."""
MOST_READ = 256
"""Frames of a clip that a page shows."""


def grid(pictures: UInt8[Tensor, "batch 3 height width"], labels: Sequence[str], columns: int) -> Image.Image:
    """Return the pictures row by row, each with its label below; a label too long for its tile ends in an ellipsis."""
    if len(labels) != len(pictures):
        raise ValueError(f"{len(pictures)} pictures but {len(labels)} labels")
    height, width = pictures.shape[-2:]
    scale = -(-TILE // min(height, width)) if min(height, width) < TILE else 1
    tile = (width * scale, height * scale)
    rows = -(-len(labels) // columns)
    size = (GAP + columns * (tile[0] + GAP), GAP + rows * (tile[1] + LABEL + GAP))
    sheet = Image.new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT)
    for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        x = GAP + i % columns * (tile[0] + GAP)
        y = GAP + i // columns * (tile[1] + LABEL + GAP)
        sheet.paste(to_image(picture).resize(tile, Image.Resampling.NEAREST), (x, y))
        draw.text((x, y + tile[1] + 2), _fit(label, tile[0], font), fill=INK, font=font)
    return sheet


def save_grid(path: Path, pictures: UInt8[Tensor, "batch 3 height width"], labels: Sequence[str], columns: int) -> None:
    """Write the grid as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        grid(pictures, labels, columns).save(part, format="PNG", optimize=True)


def data_uri(picture: Picture, file: Path | None = None, side: int = 512) -> str:
    """Return the picture as text a page can hold: PNG if small, else WebP (quality 92) of at most `side` pixels.

    If its `file` is an animated picture that is shown instead, smaller if it is of more than `MOVING_BYTES`.
    """
    if file is not None and file.suffix in MOVING:
        kind, held = _moving(file)
        return f"data:image/{kind};base64,{base64.b64encode(held).decode()}"
    image, buffer = to_image(picture), io.BytesIO()
    kind = "png" if max(image.size) <= PNG_SIDE else "webp"
    if kind == "png":
        image.save(buffer, format="PNG", optimize=True)
    else:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        image.save(buffer, format="WEBP", quality=92, method=4)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _moving(file: Path) -> tuple[str, bytes]:
    """Return what a page plays of an animated picture, and of which kind that is: the file, or a lighter likeness."""
    if file.stat().st_size <= MOVING_BYTES:
        return file.suffix[1:], file.read_bytes()
    frames, pause = paced(file, MOST_READ)
    held = b""
    for side, quality in LIGHTER:
        small, buffer = [frame.copy() for frame in frames], io.BytesIO()
        for frame in small:
            frame.thumbnail((side, side), Image.Resampling.LANCZOS)
        first, *rest = small
        first.save(buffer, "WEBP", save_all=True, append_images=rest, duration=round(pause), loop=0, quality=quality)
        held = buffer.getvalue()
        if len(held) <= MOVING_BYTES:
            break
    return "webp", held


def thumbnail(picture: Picture, side: int = 96) -> str:
    """Return a small likeness as text a page can hold: WebP of some kilobytes, at most `side` pixels."""
    image, buffer = to_image(picture), io.BytesIO()
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    image.save(buffer, format="WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def film(file: Path | None, count: int = 6, side: int = 96) -> str:
    """Return a clip's file as a strip of frames side by side, at even times and of at most `side` pixels: it prints.

    Empty for what does not move.
    """
    if file is None or file.suffix not in MOVING:
        return ""
    moving = decoded_clip(file, MOST_READ)
    if len(moving) < 2:
        return ""
    count = min(count, len(moving))
    frames = [moving[round(i * (len(moving) - 1) / (count - 1))].copy() for i in range(count)]
    for frame in frames:
        frame.thumbnail((side, side), Image.Resampling.LANCZOS)
    width, height = frames[0].size
    strip = Image.new("RGB", (len(frames) * (width + 2) - 2, height), PAPER)
    for i, frame in enumerate(frames):
        strip.paste(frame, (i * (width + 2), 0))
    buffer = io.BytesIO()
    strip.save(buffer, format="WEBP", lossless=True)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def strips(frames: Float[Tensor, "batch frames 3 height width"]) -> UInt8[Tensor, "batch 3 height columns"]:
    """Return `STRIP` frames of each clip side by side, evenly spaced, white between; of pictures these themselves."""
    some = levels(frames[:, at_even_distances(frames.shape[1], STRIP)])
    return functional.pad(some, (0, 1), value=255).permute(0, 2, 3, 1, 4).flatten(3)[..., :-1]


def _fit(label: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    text = " ".join(label.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"
