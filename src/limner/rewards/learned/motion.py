"""What changes from one frame of a clip to the next, beside what is seen of each."""

from __future__ import annotations

import torch
from jaxtyping import Float, Num
from torch import Tensor

from limner.core.picture import at_even_distances


def with_change(seen: Float[Tensor, "shown channels *where"], frames: int) -> Float[Tensor, "shown twice *where"]:
    """Return what is seen of frames, and behind it what that is more than in the frame before; 0 of the first one.

    The frames of a clip, `frames` of them, follow one another.
    """
    clips = seen.unflatten(0, (-1, frames))
    change = torch.cat([torch.zeros_like(clips[:, :1]), clips.diff(dim=1)], 1)
    return torch.cat([clips, change], 2).flatten(0, 1)


def as_trained(frames: Num[Tensor, "n frames *shown"], count: int) -> Num[Tensor, "n count *shown"]:
    """Return `count` frames of clips as those were that a reward learned from: at even distances, or several times.

    So a change means the same, whatever the rate of the frames that it is asked about.
    """
    some = at_even_distances(frames.shape[1], count)
    return frames[:, [some[i * len(some) // count] for i in range(count)]]
