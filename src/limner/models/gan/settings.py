"""What can be chosen about a GAN; its libraries are imported when it is loaded."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from limner.core.settings import Natural, settings

if TYPE_CHECKING:
    import torch

    from limner.core.protocols import Adapter
    from limner.core.types import Source


@settings
class GANSettings:
    """A conditional GAN: a Stable Diffusion 3 pipeline that draws in one evaluation, and what it played against."""

    learns: Literal["output", "latent", "noise"] = "output"
    """What learns: the generator, what its z is drawn from, or what noise becomes before it is z. `sampler.chance` is
    to be the same."""
    max_sequence_length: Natural = 0
    """Length of the T5 part of the text, as the discriminator has read it; 0 where there is no T5."""

    serves: ClassVar[tuple[str, ...]] = ("ConditionalGAN",)

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder."""
        adapter = importlib.import_module("limner.models.gan.adapter")  # by name: it knows these settings
        return adapter.GAN.load(source, self, dtype, device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask a Stable Diffusion 3 pipeline for the same."""
        once = {"num_inference_steps": 1, "guidance_scale": 1.0}
        return {**sampler, **once, "max_sequence_length": self.max_sequence_length}
