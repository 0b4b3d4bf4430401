"""What can be chosen about a HiDream pipeline; diffusers is imported when it is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from limner.core.settings import Range, settings
from limner.models.picture import Pixels, arguments, piped

if TYPE_CHECKING:
    import torch

    from limner.core.protocols import Adapter
    from limner.core.types import Source


@settings
class HiDreamSettings:
    """HiDream-I1, flow matching by a transformer of experts over text and picture, with four text encoders.

    Its folders lack Llama, the fourth. Load one by `HiDreamImagePipeline.from_pretrained` with
    `text_encoder_4=LlamaForCausalLM.from_pretrained(LLAMA)` and `tokenizer_4=AutoTokenizer.from_pretrained(LLAMA)`,
    and train what `save_pretrained` writes of it, or the pipeline itself. Gradients pass through the experts. Full is
    sampled as other flows are, Dev and Fast with `--sampler.dynamics CPS --sampler.dynamics.noise_level 1`. The
    pipeline scales every size to an area of 1024 x 1024; the card's code tells it another.
    """

    resolution: Pixels | None = None
    """Height in pixels, and width unless that is given; None: the pipeline's own, 1024."""
    width: Pixels | None = None
    """Width in pixels; None: the height."""
    negative_prompt: str = ""
    """What guidance leads away from."""
    max_sequence_length: Annotated[int, Range(least=1, most=218)] = 128
    """Tokens of a text, for each of the encoders."""

    serves: ClassVar[tuple[str, ...]] = ("HiDreamImagePipeline",)

    def load(self, source: Source, dtype: torch.dtype, device: torch.device) -> Adapter:
        """Return the adapter of a folder, a hub id, or a copy of a pipeline in memory."""
        return piped("limner.models.hidream.family:HIDREAM", source, self, dtype, device)

    def call(self, sampler: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that ask a diffusers pipeline for the same, beside what it is `told`."""
        asked = arguments(self.resolution, self.width, self.negative_prompt)
        return {**sampler, **asked, "max_sequence_length": self.max_sequence_length}

    def told(self, sampler: Mapping[str, Any]) -> Sequence[str]:
        """Return the line that has `pipe` draw at this size: it scales whatever it is asked for to its own area."""
        if self.resolution is None:
            return ()
        area = f"{self.resolution} * {self.resolution if self.width is None else self.width}"
        return (f"pipe.default_sample_size = ({area} + 1e-3) ** 0.5 / pipe.vae_scale_factor  # the area it scales to",)
