"""What a judge's host and its clients say to each other, protocol v1: pure functions that both sides use.

A request is one safetensors blob: the tensor `frames`, uint8 [batch, frames, height, width, 3], and under the metadata
key `request` the canonical JSON {"protocol", "media", "items": [{"id", "text", "meta"}], "deadline_ms"}, each key there
and no other but "facts", an object: what media are beside their frames (frames a second, say), if they are anything.
An answer is JSON {"protocol", "reward": {"name", "identity"}, "items", "server"} with an item a sample:
{"id", "ok": true, "score"} or {"id", "ok": false, "error": {"code", "message", "retryable"}}, and beside it what else
the judge says: "components", "uncertainty", "explanation", "maps".

Pixels travel as they are, 8 bits and uncompressed; nothing is pickled; a path or URL has no place to stand in, and the
kind of media is a key of the host's own table, which refuses others: it imports nothing for a stranger. A number that
is not finite is null, and so read as NaN: a sample with such a score is not judged, on either side.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import UInt8
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from limner.core.errors import UserError
from limner.core.media import Images, Media, Videos, levels
from limner.core.paths import SUFFIXES
from limner.core.protocols import Reward, Specified
from limner.core.types import Prompt, RewardOutput
from limner.judging.rows import Row, from_rows, to_rows
from limner.judging.spec import spec_of
from limner.judging.strict import Refused, fields, malformed, number, parsed, text

PROTOCOL = "1"
CONTENT_TYPE = "application/vnd.reward.v1+safetensors"
SCORE, SPECS, HEALTH, READY = "/v1/score", "/v1/specs", "/healthz", "/readyz"

MAX_MESSAGE = 300
"""Characters of what a refusal says."""
EXACT = 2**53
"""Whole numbers up to it are the same number to whoever reads JSON."""


Frames: TypeAlias = UInt8[Tensor, "batch frames 3 height width"]
Kinds: TypeAlias = Mapping[str, Callable[[Frames, Mapping[str, Any]], Media]]
"""How a host makes media of frames and facts, by the kind that a request names. Makers raise UserError for bad ones."""


@dataclass(frozen=True)
class Limits:
    """What a host accepts. It may hold `waiting` requests at once, each of five bytes for a byte of `frames`."""

    body_bytes: int = 256 * 2**20
    header_bytes: int = 4 * 2**20
    """Prompts, their meta and the rest of the JSON."""
    pixels: int = 2**25
    """Of a request: batch x frames x height x width."""
    samples: int = 256
    prompt_chars: int = 10_000
    meta_chars: int = 20_000
    """Of a sample's meta, as JSON."""
    meta_depth: int = 8
    """Lists and objects within each other, the meta itself included."""
    waiting: int = 8
    """Requests that are received, waiting or judged; the next one is asked to come again (429)."""
    receive_seconds: float = 5.0
    """How long a body may take to arrive, and a second more for each MiB of it that has."""
    judge_seconds: float = 60.0
    """How long the judge may take over a request, waits not counted."""


LIMITS = Limits()


@dataclass(frozen=True)
class Request:
    """A request as its host reads it. `seconds` is how long the client waits; None: it does not say."""

    media: Media
    prompts: Sequence[Prompt]
    ids: Sequence[int | str]
    seconds: float | None


@dataclass(frozen=True)
class Answer:
    """An answer as its client reads it: a row a sample, and who judged."""

    rows: Sequence[Row]
    name: str
    identity: str


def canonical(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, ASCII, no spaces. Raises UserError for what JSON cannot hold.

    A tuple, or a key that is not a string, would come back as something else, and is refused too.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
        if json.loads(text) == value:
            return text
        found = "something that JSON would change (a tuple, or a key that is no string)"
    except (TypeError, ValueError, RecursionError) as error:
        found = str(error)
    raise UserError(f"a prompt's meta must hold JSON (numbers, strings, lists, objects), got {found}")


def identity(name: str, reward: Reward) -> str:
    """Return 32 hexadecimal digits that differ if name, version or a setting of two rewards differ.

    A reward without a spec is known by its module and name; those of `FILE.py:FUNCTION` hold the file's hash. Settings
    are a dataclass's fields that are numbers, strings or booleans. Source of the hash: BLAKE2b, RFC 7693.
    """
    spec = spec_of(name, reward)
    settings = {}
    if dataclasses.is_dataclass(reward):
        values = {field.name: vars(reward)[field.name] for field in dataclasses.fields(reward) if field.init}
        settings = {key: value for key, value in values.items() if isinstance(value, (bool, int, float, str))}
    code = reward if inspect.isroutine(reward) else type(reward)
    place = "" if isinstance(reward, Specified) else f"{code.__module__}:{code.__qualname__}"
    text = repr((spec.name, spec.version, sorted(settings.items()), place))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


# Requests


def encode_request(media: Media, prompts: Sequence[Prompt], seconds: float) -> bytes:
    """Return the request to judge media within `seconds`.

    The kind of media is the name of their class in lower case, their facts are the fields that are no tensors. A file
    of this machine, which a prompt names as its reference, is not told of.
    Raises UserError for facts or prompts that JSON cannot hold, ValueError for pixels that are not finite.
    """
    frames = media.frames()
    if not frames.isfinite().all():
        raise ValueError("pixels that are not finite cannot be judged")
    kind = type(media).__name__.lower()
    items = [{"id": i, "text": prompt.text, "meta": _told(prompt)} for i, prompt in enumerate(prompts)]
    content = {"protocol": PROTOCOL, "media": kind, "items": items, "deadline_ms": round(1000 * seconds)}
    facts = {name: value for name, value in vars(media).items() if not isinstance(value, Tensor)}
    content |= {"facts": facts} if facts else {}
    return save({"frames": levels(frames).cpu().permute(0, 1, 3, 4, 2).contiguous()}, {"request": canonical(content)})


def _told(prompt: Prompt) -> dict[str, Any]:
    return {name: value for name, value in prompt.meta.items() if name != "reference" or not prompt.reference}


def images(frames: Frames, facts: Mapping[str, Any]) -> Images:
    """Return pictures of one frame each. Raises UserError for more, or for facts that pictures do not have."""
    if frames.shape[1] != 1 or facts:
        raise UserError(f"pictures have one frame each and no facts, got {frames.shape[1]} frames and {sorted(facts)}")
    return Images(frames[:, 0])


def videos(frames: Frames, facts: Mapping[str, Any]) -> Videos:
    """Return clips. Raises UserError for facts other than one: fps, a positive number."""
    if facts.keys() != {"fps"} or type(facts["fps"]) not in (int, float):
        raise UserError(f"videos have one fact, fps, a number, got {sorted(facts)}")
    return Videos(frames, facts["fps"])


KINDS: Kinds = {"images": images, "videos": videos}
"""What every host can make; one that hosts judges of other media is given their kinds beside these."""


def decode_request(body: bytes, limits: Limits, kinds: Kinds = KINDS) -> Request:
    """Return what a request asks; media are as an in-process judge sees them. Raises Refused."""
    size = int.from_bytes(body[:8], "little")
    if len(body) < 8 or not 2 <= size <= len(body) - 8:
        malformed("no safetensors blob: its header's length does not fit")
    if size > limits.header_bytes:
        raise Refused(413, "header_too_large", f"{size} bytes of header, at most {limits.header_bytes}")
    header = fields(parsed(body[8 : 8 + size]), "the header", "__metadata__", "frames")
    shape = _shape(fields(header["frames"], "the tensor `frames`", "dtype", "shape", "data_offsets"), limits)
    metadata = fields(header["__metadata__"], "the metadata", "request")
    content = parsed(text(metadata["request"]))
    fields(content, "the request", "protocol", "media", "items", "deadline_ms", maybe="facts")
    if content["protocol"] != PROTOCOL:
        malformed(f"this host speaks protocol {PROTOCOL!r}")
    kind, facts = text(content["media"]), content.get("facts", {})
    if kind not in kinds or not isinstance(facts, dict):
        malformed(f"this host judges media {', '.join(sorted(kinds))}, with facts in an object, got {kind[:40]!r}")
    _require_modest(facts, "the facts", limits)
    ids, prompts = _prompts(content["items"], shape[0], limits)
    try:
        frames = load(body)["frames"]
    except SafetensorError as error:
        malformed(f"no safetensors blob: {str(error)[:200]}")
    if frames.dtype != torch.uint8 or frames.shape != torch.Size(shape):
        malformed("two headers in one")
    try:
        media = kinds[kind](frames.permute(0, 1, 4, 2, 3).contiguous(), facts)
    except UserError as error:
        malformed(str(error))
    deadline = number(content["deadline_ms"])
    if deadline < 0:  # of 0 ms it is late, as of a client whose time ran out on the way
        malformed("a deadline is 0 ms or more")
    return Request(media, prompts, ids, None if math.isnan(deadline) else deadline / 1000)


def _shape(entry: Mapping[str, Any], limits: Limits) -> list[int]:
    shape = entry["shape"]
    if entry["dtype"] != "U8" or not isinstance(shape, list) or len(shape) != 5 or shape[4] != 3:
        malformed("`frames` must be uint8 [batch, frames, height, width, 3]")
    if not all(type(length) is int and length > 0 for length in shape):
        malformed("`frames` must not be empty")
    if shape[0] > limits.samples or math.prod(shape[:4]) > limits.pixels:
        most = f"at most {limits.samples} samples and {limits.pixels} pixels in all"
        raise Refused(413, "too_many_pixels", f"`frames` has shape {shape}, {most}"[:300])
    return shape


def _prompts(items: Any, batch: int, limits: Limits) -> tuple[list[int | str], list[Prompt]]:
    if not isinstance(items, list) or len(items) != batch:
        malformed(f"{batch} samples need as many items")
    ids: list[int | str] = []
    prompts = []
    for place, item in enumerate(items):
        fields(item, f"item {place}", "id", "text", "meta")
        if type(item["id"]) not in (int, str) or len(str(item["id"])) > 100:
            malformed(f"item {place}: its id must be a number or a short string")
        if not isinstance(item["text"], str) or not isinstance(item["meta"], dict):
            malformed(f"item {place}: `text` must be a string and `meta` an object")
        if len(item["text"]) > limits.prompt_chars:
            long = f"item {place}: a text of {len(item['text'])} characters, at most {limits.prompt_chars}"
            raise Refused(413, "prompt_too_long", long)
        _require_modest(item["meta"], f"item {place}", limits)
        ids.append(item["id"])
        prompts.append(Prompt(item["text"], item["meta"]))
        if str(item["meta"].get("reference")).lower().endswith(SUFFIXES):
            malformed(f"item {place}: its reference names a file, and no file of a host is opened for a request")
    if len(set(ids)) != batch:
        malformed("an id stands twice")
    return ids, prompts


def _require_modest(meta: Mapping[str, Any], where: str, limits: Limits) -> None:
    """Raise Refused for a meta that is long or deep, or holds a number that readers of JSON do not agree on.

    Source of the range of whole numbers: RFC 8259, section 6.
    """
    level: list[Any] = [meta]
    for _ in range(limits.meta_depth + 1):
        numbers = [each for each in level if type(each) in (int, float)]
        if not all(math.isfinite(each) if isinstance(each, float) else abs(each) <= EXACT for each in numbers):
            raise Refused(422, "meta_number", f"{where}: meta holds a number that is not finite, or beyond 2^53")
        lists = [each if isinstance(each, list) else each.values() for each in level if isinstance(each, (list, dict))]
        level = [value for each in lists for value in each]
    if level:
        raise Refused(422, "meta_too_deep", f"{where}: a meta of more than {limits.meta_depth} levels")
    if len(json.dumps(meta)) > limits.meta_chars:
        raise Refused(422, "meta_too_long", f"{where}: a meta of more than {limits.meta_chars} characters")


# Answers


def encode_answer(request: Request, output: RewardOutput, name: str, who: str, server: Mapping[str, float]) -> bytes:
    """Return the answer to a request: `who` is the reward's identity, `server` numbers about the host."""
    items = [
        {"id": id, **row} | ({} if row["ok"] else {"error": _not_judged()})
        for id, row in zip(request.ids, to_rows(output), strict=True)
    ]
    reward = {"name": name, "identity": who}
    content = {"protocol": PROTOCOL, "reward": reward, "items": items, "server": dict(server)}
    return json.dumps(content, allow_nan=False).encode()


def _not_judged() -> dict[str, Any]:
    return {"code": "not_judged", "message": "the judge could not judge this sample", "retryable": False}


def decode_answer(body: bytes, batch: int) -> Answer:
    """Return what a host says of `batch` samples. Raises Refused if it does not say it of exactly these, in order."""
    content = parsed(body)
    if not isinstance(content, dict) or content.get("protocol") != PROTOCOL:
        malformed(f"an answer that is not of protocol {PROTOCOL!r}")
    reward, items = content.get("reward"), content.get("items")
    if not isinstance(reward, dict) or not isinstance(items, list):
        malformed("an answer without reward or items")
    if len(items) != batch or not all(isinstance(item, dict) for item in items):
        malformed(f"{len(items)} items for {batch} samples")
    ids = [item.get("id") for item in items]
    if ids != list(range(batch)) or not all(type(id) is int for id in ids):
        malformed("an answer about other samples")
    from_rows(items)
    return Answer(items, text(reward.get("name")), text(reward.get("identity")))


def encode_error(code: str, message: str) -> bytes:
    """Return the body of an answer that refuses a whole request."""
    return json.dumps({"protocol": PROTOCOL, "error": {"code": code, "message": message[:MAX_MESSAGE]}}).encode()


def decode_error(body: bytes) -> str:
    """Return what a refusal says, in printable characters and cut; it is a stranger's text."""
    try:
        message = str(parsed(body)["error"]["message"])
    except (Refused, KeyError, TypeError, IndexError, RecursionError):
        message = body[:MAX_MESSAGE].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else " " for c in message[:MAX_MESSAGE])
