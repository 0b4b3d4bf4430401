"""The families that `Piped` serves, each with its miniatures and how its plain pipeline is given noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from limner.core.types import Prompt
from limner.diffusion.dynamics import CPS, DDIM, Dynamics, EulerODE
from limner.models.animatediff import build as animatediff
from limner.models.animatediff.family import ANIMATEDIFF
from limner.models.aura_flow import build as aura_flow
from limner.models.aura_flow.family import AURA_FLOW
from limner.models.chroma import build as chroma
from limner.models.chroma.family import CHROMA
from limner.models.cog_video import build as cog_video
from limner.models.cog_video.family import COG_VIDEO
from limner.models.cogview4 import build as cogview4
from limner.models.cogview4.family import COGVIEW4
from limner.models.flux import build as flux
from limner.models.flux.family import FLUX, FLUX_KONTEXT
from limner.models.flux2 import build as flux2
from limner.models.flux2.family import FLUX2, FLUX2_KLEIN
from limner.models.hidream import build as hidream
from limner.models.hidream.family import HIDREAM
from limner.models.hunyuan_dit import build as hunyuan_dit
from limner.models.hunyuan_dit.family import HUNYUAN_DIT
from limner.models.hunyuan_image import build as hunyuan_image
from limner.models.hunyuan_image.family import HUNYUAN_IMAGE
from limner.models.hunyuan_video import build as hunyuan_video
from limner.models.hunyuan_video.family import HUNYUAN_VIDEO
from limner.models.ltx import build as ltx
from limner.models.ltx.family import LTX
from limner.models.lumina2 import build as lumina2
from limner.models.lumina2.family import LUMINA2
from limner.models.mochi import build as mochi
from limner.models.mochi.family import MOCHI
from limner.models.packing import packed
from limner.models.piped import Family, Piped
from limner.models.pixart import build as pixart
from limner.models.pixart.family import PIXART
from limner.models.qwen_image import build as qwen_image
from limner.models.qwen_image.edit import QWEN_IMAGE_EDIT, QWEN_IMAGE_EDIT_PLUS
from limner.models.qwen_image.family import QWEN_IMAGE
from limner.models.sana import build as sana
from limner.models.sana.family import SANA
from limner.models.sana.sprint import SANA_SPRINT
from limner.models.z_image import build as z_image
from limner.models.z_image.family import Z_IMAGE

TEXTS = ["a red star", "two stars"]
PICTURES = [str(Path(__file__).parents[1] / "docs" / "results" / name) for name in ("memory.png", "control.png")]
"""What is edited, by those who are given something."""
PROMPTS = [Prompt(text, inputs={"image": picture}) for text, picture in zip(TEXTS, PICTURES, strict=True)]

SHOWN = {"image": [Image.open(picture).convert("RGB") for picture in PICTURES]}
"""The same as a plain pipeline takes them."""


@dataclass(frozen=True)
class Case:
    """A miniature of a family. `given` is the noise as the plain pipeline takes it."""

    family: Family
    miniature: Callable[[], Any]
    given: Callable[[Tensor], Tensor] = lambda noise: noise
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Arguments that switch off what a pipeline does beside drawing."""
    alone: bool = False
    """Whether the plain pipeline edits one picture at a time."""
    guided: bool = True
    """Whether the plain pipeline can be guided."""
    dynamics: Dynamics = field(default_factory=EulerODE)
    """How the plain pipeline steps."""

    size: Mapping[str, int] = field(default_factory=lambda: {"resolution": 64, "width": 32})
    """Height and width that is none of its own."""

    def plain(self) -> Any:
        """Return the pipeline as diffusers loads it from a folder: nothing drops out."""
        pipeline = self.miniature()
        pipeline.set_progress_bar_config(disable=True)
        for part in pipeline.components.values():
            if isinstance(part, nn.Module):
                part.eval()
        return pipeline

    def model(self, settings: Any = None) -> Piped:
        return Piped.wrap(self.family, self.miniature(), settings or self.family.tiny_settings)


CASES = {
    "flux": Case(FLUX, flux.tiny_pipeline, packed),
    "flux-schnell": Case(FLUX, lambda: flux.tiny_pipeline(dev=False), packed),
    "flux_kontext": Case(
        FLUX_KONTEXT,
        lambda: flux.tiny_kontext(seed=3),  # rounded to bfloat16 some weights, FLUX.1's too, are 6 % off, and not 5
        packed,
        extra=SHOWN,
    ),
    "flux2": Case(FLUX2, flux2.tiny_pipeline, guided=False),
    "flux2_klein": Case(FLUX2_KLEIN, flux2.tiny_klein),
    "chroma": Case(CHROMA, chroma.tiny_pipeline, packed),
    "qwen_image": Case(QWEN_IMAGE, qwen_image.tiny_pipeline, packed),
    "qwen_image_edit": Case(QWEN_IMAGE_EDIT, qwen_image.tiny_edit, packed, extra=SHOWN, alone=True),
    "qwen_image_edit_plus": Case(QWEN_IMAGE_EDIT_PLUS, qwen_image.tiny_edit_plus, packed, extra=SHOWN, alone=True),
    "qwen_image_edit_plus-2509": Case(
        QWEN_IMAGE_EDIT_PLUS,
        lambda: qwen_image.tiny_edit_plus(zero_cond_t=False),
        packed,
        extra=SHOWN,
        alone=True,
    ),
    "z_image": Case(Z_IMAGE, z_image.tiny_pipeline),
    "ltx": Case(LTX, ltx.tiny_pipeline, lambda noise: noise.flatten(2).mT),
    "lumina2": Case(LUMINA2, lumina2.tiny_pipeline),
    "lumina2-dynamic": Case(LUMINA2, lambda: lumina2.tiny_pipeline(dynamic=True)),
    "aura_flow": Case(AURA_FLOW, aura_flow.tiny_pipeline),
    "cogview4": Case(COGVIEW4, cogview4.tiny_pipeline),
    "pixart": Case(PIXART, pixart.tiny_pipeline),
    "hunyuan_dit": Case(HUNYUAN_DIT, hunyuan_dit.tiny_pipeline, dynamics=DDIM(1.0)),
    "hunyuan_image": Case(HUNYUAN_IMAGE, hunyuan_image.tiny_pipeline, size={"resolution": 96, "width": 64}),
    "hidream": Case(HIDREAM, hidream.tiny_pipeline),
    "hunyuan_video": Case(HUNYUAN_VIDEO, hunyuan_video.tiny_pipeline),
    "cog_video": Case(COG_VIDEO, cog_video.tiny_pipeline, lambda noise: noise.movedim(1, 2)),
    "cog_video-5b": Case(COG_VIDEO, lambda: cog_video.tiny_pipeline(large=True), lambda noise: noise.movedim(1, 2)),
    "animatediff": Case(ANIMATEDIFF, animatediff.tiny_pipeline),
    "mochi": Case(MOCHI, mochi.tiny_pipeline),
    "sana": Case(SANA, lambda: sana.tiny_pipeline(order=1)),
    "sana_sprint": Case(SANA_SPRINT, sana.tiny_sprint, guided=False, dynamics=CPS(1.0)),
}


def noise(model: Piped, count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, *model.latent().shape, generator=torch.Generator().manual_seed(seed))


def prediction(model: Piped) -> Tensor:
    """Return one prediction with which two transformers can be compared."""
    t, index = torch.tensor([0.2, 0.5, 1]), torch.tensor([0, 1, 2])
    with torch.no_grad():
        return model.predict(noise(model, 3), t, model.encode(PROMPTS), index)
