"""Optical flow of clips, remembered; where it is to be trusted, and the camera's share of it."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from limner.core.media import levels
from limner.rewards.video.search import Flow, opencv, searched

UNSEEN = 2 / 255
"""Largest rms change of a window, a channel, that nobody sees: what compression and decoders leave of a still one."""
CONFIRMED = (0.5, 0.8)
"""Share of a window's change that its flow explains: at most what matching noise explains, at least what things do."""
EXACT = 0.15
"""Pixels that the flow of what is seen is wrong by."""


KEPT = 2**28
"""Bytes of flow that are remembered: several terms of a reward judge the same clips one after the other."""

_found: OrderedDict[bytes, Flow] = OrderedDict()
_lock = Lock()


def forth(clip: Tensor, network: str = "") -> Flow:
    """Return how far pixels of a clip `[frames, 3, height, width]` move to the next frame, x and y in pixels.

    `[frames - 1, height, width, 2]`, not to be written into; by OpenCV's search, or by RAFT if `network` is its file.
    """
    return remembered(levels(clip).cpu().permute(0, 2, 3, 1).numpy(), network)


def back(clip: Tensor, network: str = "") -> Flow:
    """Return how far pixels of each frame but the first move to the one before, as `forth` does."""
    return remembered(levels(clip.flip(0)).cpu().permute(0, 2, 3, 1).numpy(), network)[::-1]


def remembered(pixels: NDArray[np.uint8], network: str) -> Flow:
    """Return `searched`, or what it found when it was last asked about these pixels, while `KEPT` has room for it."""
    key = blake2b(f"{pixels.shape} {network}".encode() + np.ascontiguousarray(pixels).data).digest()
    with _lock:
        if key in _found:
            _found.move_to_end(key)
            return _found[key]
    flow = searched(pixels, network)
    flow.setflags(write=False)
    with _lock:
        _found[key] = flow
        while sum(each.nbytes for each in _found.values()) > KEPT:
            _found.popitem(last=False)
    return flow


def sampled(values: Flow, flow: Flow) -> Flow:
    """Return values `[height, width, channels]` read where the flow of each pixel leads."""
    ys, xs = np.indices(flow.shape[:2], dtype=np.float32)
    cv2 = opencv()
    found: Flow = cv2.remap(
        values, xs + flow[..., 0], ys + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return found


def agreeing(there: Flow, back: Flow) -> NDArray[np.bool_]:
    """Tell of which pixels the way there and back ends where it began: the others are hidden in one of two frames.

    |f + b|^2 < 0.01 (|f|^2 + |b|^2) + 0.5. Source: Sundaram et al., ECCV 2010.
    """
    returned = sampled(back, there)
    apart = np.square(there + returned).sum(-1)
    close: NDArray[np.bool_] = apart < 0.01 * (np.square(there).sum(-1) + np.square(returned).sum(-1)) + 0.5
    return close


def confirmed(now: Flow, then: Flow, flow: Flow) -> Flow:
    """Return in how far the flow of each pixel is motion that is seen: 0 to 1, soft between the shares `CONFIRMED`.

        (var(now - then) - var(now - then(p + f))) / (var(now - then) + c),    c = 3 `UNSEEN`^2

    Variances are those of a window around the pixel (9 pixels wide, or an eighth of the shorter side where that is
    more), summed over channels, of frames `[height, width, 3]` in [0, 1] smoothed by 3 x 3. A search finds some flow
    everywhere: on a plain ground, in noise, and around a thing that stays. There it explains no change that is seen, or
    hardly more than half of it. A change of brightness is none of it.
    """
    cv2 = opencv()
    width = 2 * (max(8, min(flow.shape[:2]) // 8) // 2) + 1
    now, then = (cv2.GaussianBlur(each, (3, 3), 0) for each in (now, then))

    def change(apart: Flow) -> Flow:
        mean, square = (cv2.blur(x, (width, width), borderType=cv2.BORDER_REFLECT) for x in (apart, apart * apart))
        return np.clip((square - mean * mean).sum(-1), 0, None)

    (low, high), changed = CONFIRMED, change(now - then)
    share = (changed - change(now - sampled(then, flow))) / (changed + 3 * UNSEEN**2)
    return np.clip((share - low) / (high - low), 0, 1)


def of_camera(flow: Flow) -> Flow:
    """Return the flow of the homography that explains most pixels, to `EXACT`; none where no homography does.

    Give it a flow that is 0 where nothing is seen (`confirmed`): a search carries the motion of a thing along over a
    plain ground, and a homography that explains it there would take it away.
    """
    cv2 = opencv()
    height, width = flow.shape[:2]
    ys, xs = np.indices((height, width), dtype=np.float32)
    places = np.stack([xs, ys], axis=-1)
    thin = max(1, min(height, width) // 16)
    some = places[::thin, ::thin].reshape(-1, 1, 2)
    moved = some + flow[::thin, ::thin].reshape(-1, 1, 2)
    cv2.setRNGSeed(0)
    camera, _ = cv2.findHomography(some, moved, cv2.RANSAC, EXACT)
    if camera is None:
        return np.zeros_like(flow)
    carried: Flow = cv2.perspectiveTransform(places.reshape(-1, 1, 2), camera).reshape(places.shape) - places
    return carried
