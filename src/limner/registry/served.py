"""Which kind of model a folder is of."""

from __future__ import annotations

import difflib
from pathlib import Path

from limner.core.edition import Bits, Edition
from limner.core.errors import UserError
from limner.models.folder import read_index
from limner.registry.find import find
from limner.registry.names import BASES, MODELS

REFUSED = {
    "ChameleonForConditionalGeneration": "transformers sets the logits of its picture tokens to -inf, so that it "
    "writes about pictures and cannot draw one; take Janus-Pro or Emu3, which can",
}
"""What is near to what is served, and why it is not."""


def source_of(
    path: str, revision: str = "", variant: str = "", quantize: Bits = "none", hollow: bool = False
) -> str | Path | Edition:
    """Return the folder of a built-in base, or the folder or hub id that `path` is, in an edition."""
    found: str | Path = find(BASES, "base", path) if path in BASES else path
    plain = not (revision or variant or hollow) and quantize == "none"
    return found if plain else Edition(str(found), revision, variant, quantize, hollow)


def kind_of(path: str, revision: str = "") -> str:
    """Return the kind that serves a base, folder or hub id, as its index says. Raises UserError if none does."""
    return kind_of_class(read_index(source_of(path, revision))["_class_name"], path)


def kind_of_class(name: str, source: str) -> str:
    """Return the kind that serves pipelines of a class. Raises UserError if none does, which says what is of it."""
    if name in REFUSED:
        raise UserError(f"model: {source} is a {name}: {REFUSED[name]}")
    served = {kind: find(MODELS, "model kind", kind).serves for kind in MODELS}
    for kind, classes in served.items():
        if name in classes:
            return kind
    by_class = {each: kind for kind, classes in served.items() for each in classes}
    (like,) = difflib.get_close_matches(name, by_class, n=1, cutoff=0)
    raise UserError(
        f"model: {source} is a {name}, and limner serves {', '.join(by_class)}; the nearest kind is {by_class[like]} "
        f"({like}); your own is a --model.kind FILE.py:NAME"
    )
