"""How much a process on a CPU takes before it holds anything of its own: libraries that are imported and at work."""

from __future__ import annotations

from importlib import import_module

import psutil
import torch
from diffusers.pipelines.pipeline_loading_utils import LOADABLE_CLASSES

from limner.judges import compose


def libraries(reward: str) -> float:
    """Return the bytes of this process when it has imported, and begun to use, what a run by that reward does.

    That is what diffusers imports to load any folder, what the judges import, and the code of a forward and a backward
    pass, whose pages are read when it first runs.
    """
    for library in map(import_module, ("diffusers", "transformers")):
        for name in LOADABLE_CLASSES[library.__name__].keys() & dir(library):
            getattr(library, name)  # as diffusers does for each part of a pipeline
    compose(reward)
    _work()
    return float(psutil.Process().memory_info().rss)


def _work(width: int = 32) -> None:
    """Take a step on a few numbers through what networks are made of: convolution, norm, attention, linear layer."""
    with torch.random.fork_rng():
        net = torch.nn.Sequential(
            torch.nn.Conv2d(width, width, 3, padding=1),
            torch.nn.GroupNorm(4, width),
            torch.nn.GELU(),
            torch.nn.Flatten(2),
            torch.nn.TransformerEncoderLayer(64, 4, 64, batch_first=True),
        )
        net(torch.randn(2, width, 8, 8)).square().mean().backward()
        torch.optim.AdamW(net.parameters(), foreach=True).step()
