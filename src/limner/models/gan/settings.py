"""What can be chosen about a GAN; its libraries are imported when it is loaded."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from limner.core.settings import settings

if TYPE_CHECKING:
    import torch

    from limner.core.protocols import Adapter
    from limner.core.types import Source


@settings
class GANSettings:
    """A conditional GAN: a generator draws latents, which an autoencoder shows, in one evaluation."""

    learns: Literal["output", "latent"] = "output"
    """What learns: the generator, or what its z is drawn from. `sampler.chance` is to be the same."""

    serves: ClassVar[tuple[str, ...]] = ("ConditionalGAN",)

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder."""
        adapter = importlib.import_module("limner.models.gan.adapter")  # by name: it knows these settings
        return adapter.GAN.load(source, self, dtype, device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return nothing more than the sampler asks: there is nothing to choose where a GAN is drawn from."""
        return {**sampler}
