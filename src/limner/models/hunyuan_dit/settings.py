"""What can be chosen about a Hunyuan-DiT pipeline; diffusers is imported when it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from limner.core.settings import settings
from limner.models.picture import Pixels, arguments, piped

if TYPE_CHECKING:
    import torch

    from limner.core.protocols import Adapter
    from limner.core.types import Source


@settings
class HunyuanDiTSettings:
    """Hunyuan-DiT, diffusion by a transformer that reads Chinese and English, of 77 tokens of CLIP and 256 of T5."""

    resolution: Pixels | None = None
    """Height in pixels, and width unless that is given; None: the network's own."""
    width: Pixels | None = None
    """Width in pixels; None: the height."""
    negative_prompt: str = ""
    """What guidance leads away from."""

    serves: ClassVar[tuple[str, ...]] = ("HunyuanDiTPipeline",)

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder, a hub id, or a copy of a pipeline in memory."""
        return piped("limner.models.hunyuan_dit.family:HUNYUAN_DIT", source, self, dtype, device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask a diffusers pipeline for the same, at exactly this size."""
        asked = arguments(self.resolution, self.width, self.negative_prompt)
        return {**sampler, **asked, "use_resolution_binning": False}
