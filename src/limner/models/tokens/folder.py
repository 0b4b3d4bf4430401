"""The folder of a model of tokens: each part as its own library loads it, and an index that says what they are."""

from __future__ import annotations

import json
from pathlib import Path

from limner.core.quiet import no_bars
from limner.models.folder import INDEX
from limner.models.tokens.build import TokenParts

PIPELINE = "LlamaVQPipeline"
"""What the index calls it; no library has a class of that name."""
LAYOUT = {
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "decoder": ["transformers", "LlamaForCausalLM"],
    "vqvae": ["diffusers", "VQModel"],
}
"""Folders of the parts, and the library and class that loads each."""


def write_parts(folder: Path, parts: TokenParts) -> None:
    """Write tokenizer, decoder and vqvae, and the index."""
    with no_bars():
        for name, part in parts._asdict().items():
            part.save_pretrained(folder / name)
    (folder / INDEX).write_text(json.dumps({"_class_name": PIPELINE, **LAYOUT}, indent=2) + "\n", encoding="utf-8")
