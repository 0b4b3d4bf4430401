"""SANA-Sprint (arXiv:2503.09641): SANA's transformer, distilled to say in one evaluation what data the path ends at.

It is a consistency model on a quarter circle (`TrigFlow`), and sampled by `CPS(1)`: at each time but the last, its data
are noised again, afresh, to the next. The transformer itself stays one of rectified flow: x is scaled to the flow's at
its time s, where data and noise stand as on the circle, and its answer becomes v of the circle again:

    s = sin / (cos + sin),   n = sqrt(s^2 + (1 - s)^2),   v = (1 - 2 s) x + n answer(n x, s)

Source: SANA-Sprint, section 3.1, "training-free transformation to TrigFlow".
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from diffusers import SanaSprintPipeline, SCMScheduler
from torch import Tensor

from limner.core.types import Condition
from limner.diffusion.schedule import TrigFlow
from limner.diffusion.shape import over_latent
from limner.diffusion.timesteps import Grid
from limner.models.honoured import Honoured
from limner.models.piped import Family, Piped
from limner.models.sana.build import tiny_sprint
from limner.models.sana.family import INSTRUCTION, SANA, TRANSFORMER, encoded, require_fit
from limner.models.sana.settings import SanaSprintSettings

CIRCLE = TrigFlow()
TOLD = replace(
    TRANSFORMER,
    free=TRANSFORMER.free - {"timestep_scale"} | {"guidance_embeds_scale"},
    only={"guidance_embeds": (True,)},
    idle=frozenset({"dropout", "timestep_scale"}),  # its pipeline tells it the flow's time as it is
)
SCHEDULER = Honoured(
    classes=("SCMScheduler",),
    free=frozenset({"num_train_timesteps"}),
    only={"prediction_type": ("trigflow",)},
    idle=frozenset({"sigma_data"}),  # the pipeline's own scale, which it takes away again at both ends
)


def require(pipeline: Any, settings: SanaSprintSettings) -> None:
    """Raise UserError for a pipeline of which a part is not honoured, or whose parts do not fit each other."""
    SCHEDULER.require("scheduler", pipeline.scheduler)
    TOLD.require("transformer", pipeline.transformer)
    require_fit(pipeline)


def embed(pipeline: Any, settings: SanaSprintSettings, texts: list[str]) -> dict[str, Tensor]:
    """Return the language model's last states of each text after the instruction, and which of them there are."""
    return encoded(pipeline, settings, texts, INSTRUCTION)


def flow(t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the flow's time s at time t of the circle, and how long its (1 - s, s) is: n, over the latent."""
    angle = CIRCLE.angle(t)
    s = angle.sin() / (angle.cos() + angle.sin())
    return s, over_latent((s**2 + (1 - s) ** 2).sqrt(), x)


def predict(model: Piped, x: Tensor, t: Tensor, rows: Condition) -> Tensor:
    """Return the transformer's answer at the flow's time; it is told the scale of guidance."""
    s, length = flow(t, x)
    scale = model.settings.guidance * model.pipeline.transformer.config.guidance_embeds_scale
    (answer,) = model.networks["transformer"](
        (x * length).to(x.dtype),
        encoder_hidden_states=rows["context"],
        encoder_attention_mask=rows["mask"],
        guidance=torch.full_like(t, scale).to(x.dtype),
        timestep=s,
        return_dict=False,
    )
    return answer


def native(x: Tensor, t: Tensor, answer: Tensor) -> Tensor:
    """Return v of the circle, cos noise - sin x0, from the transformer's answer."""
    s, length = flow(t, x)
    return over_latent(1 - 2 * s, x) * x + length * answer


def times(pipeline: Any, steps: int, grid: Grid, tokens: int) -> Tensor:
    """Return the times of the pipeline's angles: of two steps the second is at 1.3; equal ones of any other number."""
    if grid == "linear":
        return torch.linspace(1, 0, steps + 1)
    scheduler = SCMScheduler.from_config(pipeline.scheduler.config)
    scheduler.set_timesteps(steps, **({} if steps == 2 else {"intermediate_timesteps": None}))
    return (scheduler.timesteps / (math.pi / 2)).clamp(max=1)  # it begins at 1.5708


SANA_SPRINT: Family = replace(
    SANA,
    kind="sana_sprint",
    pipelines=(SanaSprintPipeline,),
    require=require,
    embed=embed,
    embed_negative=None,
    predict=predict,
    native=native,
    chain=lambda pipeline: (CIRCLE, "v_prediction"),
    times=times,
    miniature=tiny_sprint,
    tiny_settings=SanaSprintSettings(resolution=32, max_sequence_length=24),
)
