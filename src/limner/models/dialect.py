"""What multimodal language models of one class have of their own, where `models/multimodal.py` is what they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from limner.core.protocols import ModelSettings
from limner.models.llm import DECODER_LAYERS


class WordedSettings(ModelSettings, Protocol):
    """What can be chosen about every dialect."""

    @property
    def negative_prompt(self) -> str: ...

    @property
    def max_sequence_length(self) -> int: ...


class Drawing(Protocol):
    """What the lines by which a model draws are made of."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...

    @property
    def settings(self) -> WordedSettings: ...

    @property
    def grid(self) -> tuple[int, int]: ...


@dataclass(frozen=True)
class Dialect:
    """What models of one class have of their own; `Multimodal` is all else."""

    kind: str
    cls: Any
    """transformers' class."""
    decoder: str
    """Name in the model of what is trained, a decoder without its heads."""
    require: Callable[[Any, Any], None]
    """(model, tokenizer): refuses what cannot draw."""
    grid: Callable[[Any, Any], tuple[int, int]]
    """(model, settings) -> rows and columns of a picture's codes."""
    ask: Callable[[Any, str, tuple[int, int]], str]
    """(tokenizer, prompt, grid) -> the text after which a picture is written."""
    embed: Callable[[Any, Any, Tensor], Tensor]
    """(model, decoder, codes) -> what the decoder is given for codes."""
    head: Callable[[Any, Tensor], Tensor]
    """(model, states of the decoder) -> logits of the next code."""
    codebook: Callable[[Any], Tensor]
    pixels: Callable[[Any, Tensor], Tensor]
    """(model, codes in rows and columns) -> what its tokenizer of pictures decodes, batch x 3 x height x width."""
    codes: Callable[[Any, Tensor], Tensor]
    """(model, pixels as the tokenizer sees them) -> codes in rows and columns."""
    cell: Callable[[Any], int]
    """Pixels of a code's side."""
    use: Callable[[Drawing, str, Mapping[str, Any]], list[str]]
    """(model, prompt, arguments) -> lines of Python that make `pixels` with `model` and `tokenizer`."""
    miniature: Callable[[], tuple[PreTrainedTokenizerBase, Any]]
    tiny_settings: Any
    lora_targets: tuple[str, ...] = DECODER_LAYERS
    line_end: Callable[[Any], int | None] = lambda model: None
    """(model) -> the token that ends each row; None: there is none."""
    unprompted: Callable[[Any, Tensor], Tensor] | None = None
    """(model, tokens of a prompt) -> those that guidance leads away from beside it; None: the negative prompt."""
