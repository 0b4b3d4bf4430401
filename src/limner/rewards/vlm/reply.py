"""What a model replied, read strictly: a reply that is not what was asked for is unreadable, and never guessed at."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping
from typing import Any

from limner.core.plain import finite, once

MAX_TEXT = 500
"""Characters of a model's own words that are kept."""
SPELLING = " \t\r\n▁Ġ\"'*.,!"
"""What may surround an answer in a token: white space (as tokenizers write it, too), quotes, emphasis, full stops."""
LEAST, MOST = -1000.0, 1.01
"""A log-probability that is none at all, and what rounded probabilities may add up to."""
MAX_COUNT = 2**53
"""Tokens that a service may say it used."""


class Unreadable(ValueError):
    """A reply that does not have the asked form; the message says how."""


def clean(text: str) -> str:
    """Return a text that is not ours as one line for people: no control, format or private character, 500 at most."""
    shown = "".join(
        " " if unicodedata.category(character)[0] == "C" else character for character in text[: 4 * MAX_TEXT]
    )
    line = " ".join(shown.split())
    return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 1] + "…"


def decode(body: bytes) -> Mapping[str, Any] | None:
    """Return the JSON object in `body`, or None if it is none."""
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return payload if isinstance(payload, dict) else None


def yes_no(payload: Mapping[str, Any]) -> tuple[float, float]:
    """Return P(yes) / (P(yes) + P(no)) of the first token, and P(yes) + P(no), both in [0, 1].

    P sums over the spellings among the reported top tokens ("Yes", "yes", " yes", "YES."); one that is not reported
    counts 0, so a first number of 0 or 1 is rounded, by at most the least reported probability over the second number.
    Raises Unreadable if no log-probabilities came, or neither answer is among them.
    Source: VQAScore, arXiv:2404.01291, eq. 1, whose P(yes) is here relative to P(no).
    """
    sums, whole = {"yes": 0.0, "no": 0.0}, 0.0
    top = _at(payload, "choices", 0, "logprobs", "content", 0, "top_logprobs")
    if not isinstance(top, list):
        raise Unreadable("the reply's top_logprobs are no list")
    for entry in top:
        token, logprob = _at(entry, "token"), _at(entry, "logprob")
        if not isinstance(token, str) or type(logprob) not in (int, float) or not logprob <= 1e-3:
            raise Unreadable(f"the reply's top_logprobs hold no log-probability: {clean(str(entry))}")
        probability = math.exp(min(max(logprob, LEAST), 0.0))
        whole += probability
        answer = token.strip(SPELLING).casefold()
        if answer in sums:
            sums[answer] += probability
    if whole > MOST:
        raise Unreadable(f"the reply's top_logprobs are of probabilities that add up to {whole:.3g}")
    mass = sums["yes"] + sums["no"]
    if mass == 0:
        raise Unreadable("neither yes nor no is among the first token's top_logprobs")
    return sums["yes"] / mass, min(mass, 1.0)


def json_object(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON object that is the whole reply (a code fence around it is allowed).

    Raises Unreadable for anything else: prose around it, a cut end, a key twice, NaN or infinite numbers.
    """
    text = _at(payload, "choices", 0, "message", "content")
    if not isinstance(text, str):
        raise Unreadable("the reply holds no text")
    try:
        found = json.loads(_unfenced(text), object_pairs_hook=once, parse_float=finite, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"the reply is no JSON ({clean(str(error))}): {clean(text)}") from error
    if not isinstance(found, dict):
        raise Unreadable(f"the reply is no JSON object: {clean(text)}")
    return found


def _unfenced(text: str) -> str:
    """Return what stands inside the code fence that a text is, or the text."""
    first, _, rest = text.strip().partition("\n")
    inner, _, last = rest.rpartition("\n")
    return inner if first.rstrip() in ("```", "```json") and last.strip() == "```" else text


def tokens(payload: Mapping[str, Any]) -> tuple[int, int]:
    """Return the tokens (of the prompt, of the completion) that a service reports; 0 where it does not."""
    usage = payload.get("usage")
    counts = [usage.get(f"{part}_tokens") if isinstance(usage, dict) else None for part in ("prompt", "completion")]
    prompt, completion = (n if type(n) is int and 0 < n <= MAX_COUNT else 0 for n in counts)
    return prompt, completion


def _at(tree: Any, *path: str | int) -> Any:
    """Return what lies at the end of a path of keys and indices."""
    for step in path:
        try:
            tree = tree[step]
        except (KeyError, IndexError, TypeError) as error:
            raise Unreadable(f"the reply has no {'.'.join(map(str, path))}") from error
    return tree


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")
