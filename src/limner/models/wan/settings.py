"""What can be chosen about a Wan pipeline; diffusers is imported when it is loaded."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from limner.core.settings import Range, settings
from limner.models.picture import Pixels, arguments

if TYPE_CHECKING:
    import torch

    from limner.core.protocols import Adapter
    from limner.core.types import Source


@settings
class WanSettings:
    """Wan 2.1 and 2.2, text or image to video, flow matching by one transformer or two over the clip."""

    resolution: Pixels | None = None
    """Height in pixels, and width unless that is given; None: the pipeline's own, 480 x 832."""
    width: Pixels | None = None
    """Width in pixels; None: the height."""
    num_frames: Annotated[int, Range(least=1, most=10_000)] | None = None
    """Frames of a clip, one more than a multiple of the autoencoder's (4); None: the pipeline's own, 81."""
    fps: Annotated[float, Range(above=0, most=1000)] = 16.0
    """Frames a second that a clip is shown at, which what judges time has to know; the network is not told."""
    negative_prompt: str = ""
    """What guidance leads away from."""
    max_sequence_length: Annotated[int, Range(least=1, most=512)] | None = None
    """Tokens of a text, zeros where it has fewer; None: the pipeline's own, 512."""

    first_frame: bool = False
    """Whether each prompt brings the clip's first frame, of the 5B, which goes on from one or from none."""
    last_frame: bool = False
    """Whether each prompt brings its last frame too, of the 14B of 2.2, which goes to one or to none."""

    serves: ClassVar[tuple[str, ...]] = ("WanPipeline", "WanImageToVideoPipeline")

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder, a hub id, or a copy of a pipeline in memory."""
        adapter = importlib.import_module("limner.models.wan.adapter")  # by name: it knows these settings
        return adapter.Wan.load(source, self, dtype, device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask a diffusers pipeline for the same."""
        asked = {"num_frames": self.num_frames, "max_sequence_length": self.max_sequence_length}
        chosen = {name: value for name, value in asked.items() if value is not None}
        return {**sampler, **arguments(self.resolution, self.width, self.negative_prompt), **chosen}
