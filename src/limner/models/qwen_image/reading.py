"""What Qwen2.5-VL is shown of a text with pictures: its library's processor without clips, which need torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers
from transformers import Qwen2Tokenizer, Qwen2VLImageProcessorPil


class Reading(transformers.Qwen2VLProcessor):
    """The library's own of texts and pictures, by Pillow wherever it runs, so that pixels are alike everywhere.

    It bears the name of the library's, by which a pipeline's folder calls it, and which reads what it wrote.
    """

    __module__ = transformers.Qwen2VLProcessor.__module__

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None) -> None:
        super().__init__(image_processor, tokenizer, chat_template=chat_template)


Reading.__name__ = Reading.__qualname__ = transformers.Qwen2VLProcessor.__name__


def reading(source: str | Path, **where: Any) -> Reading:
    """Return the one that a pipeline's folder, or hub id, has the settings and the vocabulary of."""
    shown = Qwen2VLImageProcessorPil.from_pretrained(source, **where)
    return Reading(shown, Qwen2Tokenizer.from_pretrained(source, **where))
