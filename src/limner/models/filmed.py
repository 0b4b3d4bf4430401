"""What kinds of clips share of their settings: a picture's, and how many frames there are, and how fast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias

from limner.core.settings import Range, settings
from limner.models.picture import Pixels, arguments, piped

if TYPE_CHECKING:
    import torch

    from limner.core.protocols import Adapter
    from limner.core.types import Source

Frames: TypeAlias = Annotated[int, Range(least=1, most=10_000)]
Pace: TypeAlias = Annotated[float, Range(above=0, most=1000)]
"""Frames a second."""


@settings
class ClipSettings:
    """The head of the settings of kinds whose pipelines draw clips of a text; `family` is MODULE:NAME."""

    resolution: Pixels | None = None
    """Height in pixels, and width unless that is given; None: the pipeline's own."""
    width: Pixels | None = None
    """Width in pixels; None: the height."""
    num_frames: Frames = 1
    """Frames of a clip, one more than a multiple of the autoencoder's."""
    fps: Pace = 8.0
    """Frames a second of the clips that are written."""
    negative_prompt: str = ""
    """What guidance leads away from."""
    max_sequence_length: Annotated[int, Range(least=1, most=512)] = 256
    """Tokens of a text, padding among them."""

    serves: ClassVar[tuple[str, ...]]
    family: ClassVar[str]

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder, a hub id, or a copy of a pipeline in memory."""
        return piped(self.family, source, self, dtype, device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask a diffusers pipeline for the same."""
        own = {"num_frames": self.num_frames, "max_sequence_length": self.max_sequence_length}
        return {**sampler, **arguments(self.resolution, self.width, self.negative_prompt), **own}
