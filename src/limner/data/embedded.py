"""The prompt that ComfyUI and A1111 (and its heirs, Forge among them) write into the pictures they make."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from limner.core.errors import UserError
from limner.core.paths import VIDEOS

EXIF_COMMENT = 0x9286
"""Where a JPEG or WebP has what a PNG has in a text chunk."""
WAYS = ("text", "text_g", "string", "value", "conditioning", "positive")
"""The inputs of a node that may lead to a text, the likeliest first."""


def embedded_prompt(picture: Path | bytes) -> str:
    """Return the prompt that a picture was made with, as far as it is in the file; else "".

    A1111 writes it in front of "Negative prompt:" and "Steps:" under "parameters"; ComfyUI writes its whole graph under
    "prompt", where it is the text that reaches a sampler as "positive". Nothing is looked for in a video. Raises
    UserError for a file that is no picture.
    """
    if isinstance(picture, Path) and picture.suffix.lower() in VIDEOS:
        return ""
    try:
        with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture) as image:
            said = {key: value for key, value in image.info.items() if isinstance(value, str)}
            comment = image.getexif().get_ifd(0x8769).get(EXIF_COMMENT)
    except Exception as error:  # for damaged files Pillow raises errors of a dozen kinds
        name = picture if isinstance(picture, Path) else f"of {len(picture)} bytes"
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "it holds no picture of a kind known here" if unknown else " ".join(str(error).split())
        raise UserError(f"picture {name} cannot be read: {reason}") from error
    if isinstance(comment, bytes):
        said.setdefault("parameters", _text(comment))
    if "parameters" in said:
        return re.split(r"\n?(?:Negative prompt:|Steps: )", said["parameters"], maxsplit=1)[0].strip()
    return _of_graph(said["prompt"]) if "prompt" in said else ""


def _text(comment: bytes) -> str:
    """Return an EXIF comment, behind the eight letters that name its encoding."""
    return comment[8:].decode("utf-16-be" if comment.startswith(b"UNICODE") else "utf-8", errors="replace")


def _of_graph(text: str) -> str:
    """Return the text of the first node that leads to a sampler's "positive"."""
    try:
        graph = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    nodes = {key: node for key, node in graph.items() if isinstance(node, Mapping)} if isinstance(graph, dict) else {}
    for node in nodes.values():
        inputs = node.get("inputs")
        if isinstance(inputs, Mapping) and "positive" in inputs:
            return _followed(nodes, inputs["positive"])
    return ""


def _followed(nodes: Mapping[str, Any], link: Any) -> str:
    """Return the first text that a link [node, output] leads to, over any number of nodes; each is visited once."""
    waiting, seen = [link], set[str]()
    while waiting:
        link = waiting.pop()
        if isinstance(link, str) and link.strip():
            return link.strip()
        if not isinstance(link, list) or not link or str(link[0]) not in nodes or str(link[0]) in seen:
            continue
        seen.add(str(link[0]))
        inputs = nodes[str(link[0])].get("inputs")
        if isinstance(inputs, Mapping):
            waiting += [inputs[key] for key in reversed(WAYS) if key in inputs]
    return ""
