"""What a judge is sent: fixed instructions, pictures without loss, and the prompt as data that cannot break out."""

from __future__ import annotations

import base64
import html
import io
import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image

from limner.core.errors import UserError
from limner.core.media import Media, Videos
from limner.core.types import Prompt
from limner.rewards.vlm.templates import GUARD, ROLE

Part = Mapping[str, Any]
"""A piece of a user message: a text or a picture."""


def quoted(tag: str, text: str) -> str:
    """Return `text` as data between <tag> and </tag>.

    &, < and > are written as entities, so that no text can close the marker, or spell the special tokens with which
    chat formats begin a turn (<|im_start|>, <start_of_turn>, </s>). Control characters but tab and newline are dropped.
    """
    kept = (c for c in text if c in "\t\n" or unicodedata.category(c) not in ("Cc", "Cs"))
    return f"<{tag}>\n{html.escape(''.join(kept), quote=False)}\n</{tag}>"


def words(text: str) -> Part:
    """Return a text as a part of a message."""
    return {"type": "text", "text": text}


def shown(pictures: Sequence[str], label: str = "") -> list[Part]:
    """Return pictures as parts of a message, after a line that says what they are; one alone needs none."""
    frames = f"{len(pictures)} frames of one video, in order:" if len(pictures) > 1 else ""
    line = " ".join(filter(None, [label, frames]))
    images: list[Part] = [{"type": "image_url", "image_url": {"url": url}} for url in pictures]
    return [words(line), *images] if line else images


def about(sample: Sequence[str], prompt: Prompt, task: str) -> list[Part]:
    """Return what a question about one sample shows: its pictures, the prompt as data, and the task."""
    return [*shown(sample), words(f"{quoted('request', prompt.text)}\n{task}")]


def request(content: Sequence[Part], max_tokens: int) -> dict[str, Any]:
    """Return the body of a chat request: who the judge is and the guard, then the material and the task."""
    messages = [{"role": "system", "content": f"{ROLE} {GUARD}"}, {"role": "user", "content": list(content)}]
    return {"messages": messages, "max_tokens": max_tokens}


def yes_no_request(content: Sequence[Part], top: int) -> dict[str, Any]:
    """Return the body of a request for one token and the log-probabilities of the `top` most probable ones."""
    return {**request(content, 1), "logprobs": True, "top_logprobs": top}


def form(values: Mapping[str, Mapping[str, Any]], reason: bool) -> dict[str, Any]:
    """Return the field that makes a service reply with a JSON object of these values, after a `reason` if wanted."""
    properties = {**({"reason": {"type": "string"}} if reason else {}), **values}
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}


def pictures(media: Media, frames: int, fps: float | None = None) -> list[list[str] | None]:
    """Return each sample's frames as data URLs of 8-bit PNG files, pixel by pixel what is saved; None if not finite.

    Of more than `frames` they are evenly spaced, with the first and the last; of one wanted, the middle one. With `fps`
    they are those at times 0, 1 / fps, 2 / fps and so on, however many.
    """
    rendered = media.frames().detach().float().cpu()
    count = rendered.shape[1]
    if fps is not None:
        chosen = rendered[:, timed(media, count, fps)]
    elif frames >= count:
        chosen = rendered
    else:
        index = [round(i * (count - 1) / (frames - 1)) for i in range(frames)] if frames > 1 else [count // 2]
        chosen = rendered[:, index]
    bytes_ = (chosen.nan_to_num().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 1, 3, 4, 2).contiguous()
    finite = chosen.isfinite().flatten(1).all(1).tolist()
    return [[_data_url(frame) for frame in sample] if ok else None for sample, ok in zip(bytes_, finite, strict=True)]


def timed(media: Media, count: int, fps: float) -> list[int]:
    """Return which of `count` frames are shown at times 0, 1 / fps, 2 / fps and so on.

    Raises UserError for what has no rate, one that is lower, and clips of which less than two frames are left.
    """
    if not isinstance(media, Videos):
        raise UserError(f"it judges clips by {fps:g} frames a second, and {type(media).__name__} have no such rate")
    if media.fps < fps:
        raise UserError(
            f"it judges clips by {fps:g} frames a second, and these have {media.fps:g}: say in model.settings.fps how "
            "fast they are to be shown, for motion at another rate is another motion"
        )
    index = [int(i * media.fps / fps) for i in range(math.ceil(count / media.fps * fps))]
    if len(index) < 2:
        raise UserError(
            f"it judges clips by {fps:g} frames a second, and {count} frames at {media.fps:g} a second leave one: "
            "longer clips show motion, or a lower model.settings.fps if they are meant to be slower"
        )
    return index


def _data_url(frame: torch.Tensor) -> str:
    buffer = io.BytesIO()
    Image.fromarray(frame.numpy()).save(buffer, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
