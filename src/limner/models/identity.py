"""What texts are encoded by, as one short name: two models of the same name encode a text alike."""

from __future__ import annotations

import hashlib
import importlib.metadata
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from limner.core.errors import UserError
from limner.models.arranged import OfPipeline
from limner.models.given import Taking
from limner.models.parts import text_encoders

ROWS = 2
"""Of what models make of texts; one more whenever a model's rows have other parts than those that were kept."""
LIBRARIES = ("diffusers", "transformers", "tokenizers", "torch")


def encoding_identity(model: Any, *others: object) -> str:
    """Return the BLAKE2b of a model's text encoders, tokenizers and latents, of libraries, and of all `others`.

    Raises UserError for a model that is no pipeline of diffusers.
    """
    if not isinstance(model, OfPipeline):
        raise UserError("prompt_cache keeps what pipelines of diffusers encode, and this model is none: leave it out")
    digest = hashlib.blake2b(digest_size=32)
    versions = [importlib.metadata.version(name) for name in LIBRARIES]
    digest.update(repr((ROWS, type(model.pipeline).__name__, dict(model.pipeline.config), versions, others)).encode())
    digest.update(repr((vars(model)["settings"], vars(model)["latent_size"], vars(model)["dtype"])).encode())
    for part in model.pipeline.components.values():
        if isinstance(part, PreTrainedTokenizerBase):
            digest.update(repr((sorted(part.get_vocab().items()), part.init_kwargs, part.chat_template)).encode())
    if "processor" in model.pipeline.components:  # how pictures are shown to what reads them
        digest.update(repr(model.pipeline.components["processor"].image_processor.to_dict()).encode())
    read = ("vae", "image_encoder") if isinstance(model, Taking) and model.takes else ()
    seeing = [model.pipeline.components[name] for name in read if model.pipeline.components.get(name) is not None]
    for encoder in [*text_encoders(model.pipeline), *seeing]:
        digest.update(repr(encoder.config).encode())
        for name, tensor in encoder.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
