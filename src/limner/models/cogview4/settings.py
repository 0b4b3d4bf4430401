"""What can be chosen about a CogView4 pipeline; diffusers is imported when it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from limner.core.settings import Range, settings
from limner.models.picture import Pixels, arguments, piped

if TYPE_CHECKING:
    import torch

    from limner.core.protocols import Adapter
    from limner.core.types import Source


@settings
class CogView4Settings:
    """CogView4, flow matching by a transformer over text and picture, as long as each text is."""

    resolution: Pixels | None = None
    """Height in pixels, and width unless that is given; None: the pipeline's own, 1024."""
    width: Pixels | None = None
    """Width in pixels; None: the height."""
    negative_prompt: str = ""
    """What guidance leads away from."""
    max_sequence_length: Annotated[int, Range(least=1, most=1024)] = 1024
    """Tokens of a text at most."""

    serves: ClassVar[tuple[str, ...]] = ("CogView4Pipeline",)

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder, a hub id, or a copy of a pipeline in memory."""
        return piped("limner.models.cogview4.family:COGVIEW4", source, self, dtype, device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask a diffusers pipeline for the same."""
        asked = arguments(self.resolution, self.width, self.negative_prompt)
        return {**sampler, **asked, "max_sequence_length": self.max_sequence_length}
