"""What can be chosen about pipelines of FLUX.1 and Kontext; diffusers is imported when it is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from limner.core.settings import NotNegative, Range, settings
from limner.models.picture import Pixels, arguments, piped, truly_guided

if TYPE_CHECKING:
    import torch

    from limner.core.protocols import Adapter
    from limner.core.types import Source

OWN = 1024
"""Pixels of a side unless another is set."""


@settings
class FluxSettings:
    """FLUX.1 dev and schnell, flow matching by a transformer that was distilled to need no guidance."""

    resolution: Pixels | None = None
    """Height in pixels, and width unless that is given; None: the pipeline's own, 1024."""
    width: Pixels | None = None
    """Width in pixels; None: the height."""
    negative_prompt: str = ""
    """What true guidance, the sampler's, leads away from."""
    guidance: NotNegative = 3.5
    """The scale that the network of FLUX.1 dev is told, and imitates in one evaluation; schnell is told none."""
    max_sequence_length: Annotated[int, Range(least=1, most=512)] = 512
    """Tokens of a text; schnell was trained with 256."""

    serves: ClassVar[tuple[str, ...]] = ("FluxPipeline",)

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder, a hub id, or a copy of a pipeline in memory."""
        return piped("limner.models.flux.family:FLUX", source, self, dtype, device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask a diffusers pipeline for the same; its `guidance_scale` is the network's."""
        own = {"guidance_scale": self.guidance, "max_sequence_length": self.max_sequence_length}
        asked = arguments(self.resolution, self.width, self.negative_prompt)
        return truly_guided(sampler, self.negative_prompt) | asked | own


@settings
class FluxKontextSettings:
    """FLUX.1 Kontext dev, flow matching that edits a picture as a text says; each prompt brings an `image`.

    It is scaled to what is drawn, so give pictures of its shape. Prompts are lines of .jsonl:
    `{"prompt": "make the star red", "inputs": {"image": "star.png"}}`.
    """

    resolution: Pixels | None = None
    """Height in pixels, and width unless that is given; None: the pipeline's own, 1024."""
    width: Pixels | None = None
    """Width in pixels; None: the height."""
    negative_prompt: str = ""
    """What true guidance, the sampler's, leads away from."""
    guidance: NotNegative = 2.5
    """The scale that the network is told, and imitates in one evaluation."""
    max_sequence_length: Annotated[int, Range(least=1, most=512)] = 512
    """Tokens of a text."""

    serves: ClassVar[tuple[str, ...]] = ("FluxKontextPipeline",)

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder, a hub id, or a copy of a pipeline in memory."""
        return piped("limner.models.flux.family:FLUX_KONTEXT", source, self, dtype, device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask a diffusers pipeline for the same, beside what it is `told`."""
        height, width = self._size()
        asked = {"guidance_scale": self.guidance, "max_sequence_length": self.max_sequence_length}
        sizes = {"height": height, "width": width, "max_area": height * width, "_auto_resize": False}
        negative = arguments(None, None, self.negative_prompt)
        return truly_guided(sampler, self.negative_prompt) | negative | asked | sizes

    def told(self, sampler: Mapping[str, Any]) -> Sequence[str]:
        """Return the line that has `pipe` scale a given picture to what is drawn, and not to a size of its own."""
        return (f"pipe.image_processor.get_default_height_width = lambda *_: {self._size()}  # of what is given",)

    def _size(self) -> tuple[int, int]:
        height = OWN if self.resolution is None else self.resolution
        return height, height if self.width is None else self.width
