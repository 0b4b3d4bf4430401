"""The cache of a decoder that writes a number of tokens which is known before: nothing is copied on the way."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):
    """Keys and values of a layer in two buffers with room for `length` tokens.

    `DynamicLayer` copies all that it holds for each token.
    """

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length
        self.buffers: list[Tensor] = []

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write behind what is there; return all of it, `[batch, heads, tokens, width]`."""
        new = (key_states, value_states)
        if not self.is_initialized:
            self.lazy_initialization(*new)
            self.buffers = [each.new_empty(*each.shape[:-2], self.length, each.shape[-1]) for each in new]
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        for buffer, each in zip(self.buffers, new, strict=True):
            buffer[..., start:end, :] = each
        self.keys, self.values = (buffer[..., :end, :] for buffer in self.buffers)
        return self.keys, self.values


def roomy_cache(config: PreTrainedConfig, length: int) -> DynamicCache:
    """Return an empty cache for `length` tokens, prompt and all; layers with a cache of their own kind keep theirs."""
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer(length) if type(each) is DynamicLayer else each for each in cache.layers]
    return cache
