"""A language model that sees pictures, for a plan: what sees cuts a picture up by numbers, and there are none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from limner.core.protocols import Adapter


@contextmanager
def sightless(model: Adapter) -> Iterator[None]:
    """Have the language model read, inside, as many tokens as there are of a text at its longest and of its picture.

    What it sees by is left out: it is smaller by far, and has done its work when the language model begins.
    """
    pipeline = vars(model)["pipeline"]
    if "processor" not in pipeline.components:
        yield
        return
    sight, before = pipeline.processor.image_processor, pipeline.prompt_template_encode_start_idx

    def read(texts: Sequence[str], shown: Sequence[Image.Image], device: torch.device) -> tuple[Tensor, None]:
        (picture,) = shown
        places = sight.get_number_of_image_patches(picture.height, picture.width, {}) // sight.merge_size**2
        length = before + places + vars(model)["settings"].max_sequence_length
        tokens = torch.zeros(len(texts), length, dtype=torch.long, device=device)
        told = pipeline.text_encoder(tokens, torch.ones_like(tokens), output_hidden_states=True)
        return told.hidden_states[-1][:, before:], None

    held: dict[str, Any] = vars(pipeline)
    held["encode_prompt"] = read
    try:
        yield
    finally:
        del held["encode_prompt"]
