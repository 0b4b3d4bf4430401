"""What can be chosen about a Qwen-Image pipeline; diffusers is imported when it is loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from limner.core.settings import Range, settings
from limner.models.picture import Pixels, arguments, piped, truly_guided

if TYPE_CHECKING:
    import torch

    from limner.core.protocols import Adapter
    from limner.core.types import Source


@settings
class QwenImageSettings:
    """Qwen-Image, flow matching by a transformer over the states of a language model; guidance keeps lengths."""

    resolution: Pixels | None = None
    """Height in pixels, and width unless that is given; None: the pipeline's own, 1024."""
    width: Pixels | None = None
    """Width in pixels; None: the height."""
    negative_prompt: str = " "
    """What guidance leads away from; a space, as the model's authors have it, where there is nothing to say."""
    max_sequence_length: Annotated[int, Range(least=1, most=1024)] = 512
    """Tokens of a text, none of which is looked at beyond its end: as many as the longest prompt has cost least."""

    serves: ClassVar[tuple[str, ...]] = ("QwenImagePipeline",)

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder, a hub id, or a copy of a pipeline in memory."""
        return piped("limner.models.qwen_image.family:QWEN_IMAGE", source, self, dtype, device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask a diffusers pipeline for the same."""
        own = {"true_cfg_scale": 1, "max_sequence_length": self.max_sequence_length}  # diffusers would guide by 4
        return own | truly_guided(sampler, self.negative_prompt) | arguments(self.resolution, self.width, "")


OWN = 1024
"""Pixels of a side unless another is set."""
STEP = 32
"""Of the sides to which the editing pipelines scale pictures."""


@settings
class EditSettings:
    """The head of the settings of Qwen-Image's editing pipelines; `family` is MODULE:NAME, `module` is diffusers'."""

    resolution: Pixels | None = None
    """Height in pixels, and width unless that is given; None: the pipeline's own, 1024."""
    width: Pixels | None = None
    """Width in pixels; None: the height."""
    negative_prompt: str = " "
    """What guidance leads away from, read beside each picture; a space where there is nothing to say."""
    max_sequence_length: Annotated[int, Range(least=8, most=1024)] = 512
    """Tokens of a text, and of what stands around it, without its picture's; a longer text is refused."""

    serves: ClassVar[tuple[str, ...]]
    family: ClassVar[str]
    module: ClassVar[str]
    area: ClassVar[int | None] = None
    """Pixels of a picture as the language model sees it; None: as many as are drawn."""

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder, a hub id, or a copy of a pipeline in memory."""
        return piped(self.family, source, self, dtype, device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask a diffusers pipeline for the same, beside what it is `told`."""
        height, width = self.size()
        guided = {"true_cfg_scale": 1} | truly_guided(sampler, self.negative_prompt)  # diffusers would guide by 4
        return guided | {"height": height, "width": width}

    def told(self, sampler: Mapping[str, Any]) -> Sequence[str]:
        """Return the lines that have `pipe` scale a given picture to what is drawn, and not to a size of its own."""
        (height, width), (rows, columns) = self.size(), self.seen()
        scaled = f"({width}, {height}, None)"
        if self.area is not None:
            scaled = f"({columns}, {rows}) if area == {self.area} else ({width}, {height})"
        return (
            f"from diffusers.pipelines.qwenimage import {self.module} as editing",
            f"editing.calculate_dimensions = lambda area, _: {scaled}  # of what is given",
        )

    def size(self) -> tuple[int, int]:
        """Return height and width of what is drawn."""
        height = OWN if self.resolution is None else self.resolution
        return height, height if self.width is None else self.width

    def seen(self) -> tuple[int, int]:
        """Return height and width of a picture as the language model sees it, of the shape that is drawn.

        Source: `calculate_dimensions` of diffusers' pipelines: of an area, sides that are multiples of 32.
        """
        height, width = self.size()
        if self.area is None:
            return height, width
        return _whole(math.sqrt(self.area * height / width)), _whole(math.sqrt(self.area * width / height))


def _whole(side: float) -> int:
    return round(side / STEP) * STEP


@settings
class QwenImageEditSettings(EditSettings):
    """Qwen-Image-Edit, flow matching that edits a picture as a text says; each prompt brings an `image`.

    It is scaled to what is drawn, so give pictures of its shape. Prompts are lines of .jsonl:
    `{"prompt": "make the star red", "inputs": {"image": "star.png"}}`. The language model sees it beside the prompt,
    and beside what guidance leads away from.
    """

    serves: ClassVar[tuple[str, ...]] = ("QwenImageEditPipeline",)
    family: ClassVar[str] = "limner.models.qwen_image.edit:QWEN_IMAGE_EDIT"
    module: ClassVar[str] = "pipeline_qwenimage_edit"


@settings
class QwenImageEditPlusSettings(EditSettings):
    """Qwen-Image-Edit-2509 and 2511: as Qwen-Image-Edit, but the language model sees some 384 x 384 pixels of it.

    The pipeline can be given several pictures; here each prompt brings one, its `image`.
    """

    serves: ClassVar[tuple[str, ...]] = ("QwenImageEditPlusPipeline",)
    family: ClassVar[str] = "limner.models.qwen_image.edit:QWEN_IMAGE_EDIT_PLUS"
    module: ClassVar[str] = "pipeline_qwenimage_edit_plus"
    area: ClassVar[int | None] = 384 * 384
