"""Where pixels of a frame are in the next: by OpenCV's dense inverse search, without weights, or by RAFT."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from limner.core.errors import UserError
from limner.rewards.video.raft.matching import CELL, LEVELS
from limner.rewards.video.raft.network import raft

Flow = NDArray[np.float32]

SIDE = 96
"""Frames are enlarged by a whole factor to at least this side: the search works on patches of 8 pixels."""
LEAST = CELL * 2**LEVELS
"""As well for RAFT: its coarsest level has two places at least."""


def opencv() -> Any:
    """Return the library. Raises UserError without it."""
    try:
        import cv2
    except ModuleNotFoundError as error:
        raise UserError("optical flow needs OpenCV: pip install 'limner[video]'") from error
    return cv2


def searched(pixels: NDArray[np.uint8], network: str) -> Flow:
    """Return the flow from each frame to the next, of frames `[frames, height, width, 3]`: RAFT's, if it is named.

    Source: Kroeger et al., arXiv:1603.03590; Teed and Deng, arXiv:2003.12039.
    """
    if network:
        return by_raft(pixels, network)
    cv2 = opencv()
    height, width = pixels.shape[1:3]
    factor = -(-SIDE // min(height, width))
    size = (width * factor, height * factor)
    grey = [cv2.resize(cv2.cvtColor(each, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_CUBIC) for each in pixels]
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found = [search.calc(a, b, None) for a, b in zip(grey[:-1], grey[1:], strict=True)]
    small = [cv2.resize(each, (width, height), interpolation=cv2.INTER_AREA) / factor for each in found]
    return np.stack(small).astype(np.float32)


def by_raft(pixels: NDArray[np.uint8], network: str) -> Flow:
    """Return the flow that the network finds, of frames brought to sides that it takes, a pair at a time."""
    height, width = pixels.shape[1:3]
    factor = -(-LEAST // min(height, width))
    size = (-(-height * factor // CELL) * CELL, -(-width * factor // CELL) * CELL)
    frames = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    frames = interpolate(frames, size, mode="bicubic", align_corners=False).clamp(-1, 1)
    model = raft(network)
    with torch.no_grad():
        found = torch.cat([model(frames[i : i + 1], frames[i + 1 : i + 2]) for i in range(len(frames) - 1)])
    small = interpolate(found, (height, width), mode="area").permute(0, 2, 3, 1)
    shrunk: Flow = (small * torch.tensor([width / size[1], height / size[0]])).contiguous().numpy()
    return shrunk
