"""CogView4 (Zhipu, 2025): rectified flow by a transformer over text and picture, told its time before the shift.

Its attention knows no mask, and its texts are padded in front to whole 16s, which it reads as it reads words. So a text
is encoded alone, as the pipeline does one prompt, and a pass goes through the network once for each length among its
texts: what is drawn of a prompt does not depend on which others are drawn beside it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from diffusers import CogView4Pipeline
from torch import Tensor

from limner.core.transfer import sent
from limner.core.types import Condition
from limner.diffusion.timesteps import Grid, time_shift
from limner.models.cogview4.build import tiny_pipeline
from limner.models.cogview4.settings import CogView4Settings
from limner.models.honoured import UNSHIFTED, Honoured, require_equal, require_parts
from limner.models.parts import filled, present
from limner.models.piped import Family, Piped

WHOLE = 16
"""Tokens that a text is padded to a multiple of."""
TRANSFORMER = Honoured(
    classes=("CogView4Transformer2DModel",),
    free=frozenset(
        "attention_head_dim condition_dim in_channels num_attention_heads num_layers out_channels rope_axes_dim "
        "sample_size text_embed_dim time_embed_dim".split()
    ),
    only={"patch_size": (2,)},
    idle=frozenset({"pos_embed_max_size"}),  # places are turned, not added
)
SCHEDULER = Honoured(
    classes=("FlowMatchEulerDiscreteScheduler",),
    free=frozenset(
        "base_image_seq_len base_shift max_shift num_train_timesteps shift time_shift_type use_dynamic_shifting".split()
    ),
    only={  # none of which the network's time could be told from
        "invert_sigmas": (False,),
        "shift_terminal": (None,),
        "stochastic_sampling": (False,),
        "use_beta_sigmas": (False,),
        "use_exponential_sigmas": (False,),
        "use_karras_sigmas": (False,),
    },
    idle=frozenset({"max_image_seq_len"}),
)


def require(pipeline: Any, settings: CogView4Settings) -> None:
    """Raise UserError for a pipeline of which a part is not honoured, or whose parts do not fit each other."""
    require_parts(pipeline, TRANSFORMER, UNSHIFTED)
    SCHEDULER.require("scheduler", pipeline.scheduler)
    has, width = pipeline.transformer.config, pipeline.text_encoder.config.hidden_size
    require_equal("transformer has out_channels", has.out_channels, "it has in_channels", has.in_channels)
    require_equal("transformer has text_embed_dim", has.text_embed_dim, "the text encoder gives", width)


def embed(pipeline: Any, settings: CogView4Settings, texts: list[str]) -> dict[str, Tensor]:
    """Return the states of the language model's last layer but one, each text alone, and which tokens there are."""
    length = math.ceil(settings.max_sequence_length / WHOLE) * WHOLE
    states = [
        pipeline.encode_prompt(
            [text],
            do_classifier_free_guidance=False,
            device=pipeline.text_encoder.device,
            max_sequence_length=settings.max_sequence_length,
        )[0]
        for text in texts
    ]
    return {
        "context": torch.cat([filled(each, length) for each in states]),
        "mask": torch.cat([present(None, each, length) for each in states]),
    }


def predict(model: Piped, x: Tensor, t: Tensor, rows: Condition) -> Tensor:
    """Return the transformer's velocity, noise - x0: texts of a length in one pass."""
    config, tokens = model.pipeline.scheduler.config, x[0, 0].numel() // model.family.patch**2
    told = config.num_train_timesteps * time_shift(t, 1 / shift(config, tokens))
    size = sent(torch.tensor([[model.cell * side for side in x.shape[-2:]]], dtype=x.dtype), x.device)
    lengths = rows["mask"].sum(1).tolist()
    order, parts = [], []
    for length in sorted(set(lengths)):
        chosen = [row for row, each in enumerate(lengths) if each == length]
        here = sent(torch.tensor(chosen), x.device)
        sizes = size.expand(len(chosen), 2)
        (velocity,) = model.networks["transformer"](
            hidden_states=x[here],
            encoder_hidden_states=rows["context"][here, :length],
            timestep=told[here],
            original_size=sizes,
            target_size=sizes,
            crop_coords=torch.zeros_like(sizes),
            return_dict=False,
        )
        order += chosen
        parts.append(velocity)
    return torch.cat(parts)[torch.tensor(order, device=x.device).argsort()]


def shift(config: Any, tokens: int) -> float:
    """Return k of the shift k u / (1 + (k - 1) u) of a scheduler's times u, which may grow with the picture.

    mu = base_shift + max_shift sqrt(tokens / base_len); k is mu, or e^mu where the shift is "exponential".
    """
    if not config.use_dynamic_shifting:
        return float(config.shift)
    mu = config.base_shift + config.max_shift * math.sqrt(tokens / config.base_image_seq_len)
    return float(mu if config.time_shift_type == "linear" else math.exp(mu))


def times(pipeline: Any, steps: int, grid: Grid, tokens: int) -> Tensor:
    """Return shifted times, equal ones before: the pipeline's own, whole thousandths from 1 to .001, or from 1 to 0."""
    config = pipeline.scheduler.config
    levels = config.num_train_timesteps
    own = np.append(np.linspace(levels, 1, steps).astype(np.int64), 0) / levels
    equal = torch.from_numpy(own).float() if grid == "own" else torch.linspace(1, 0, steps + 1)
    return time_shift(equal, shift(config, tokens))


COGVIEW4 = Family(
    kind="cogview4",
    pipelines=(CogView4Pipeline,),
    parts=("scheduler", "text_encoder", "tokenizer", "transformer", "vae"),
    require=require,
    embed=embed,
    predict=predict,
    own=lambda pipeline: (pipeline.transformer.config.sample_size * pipeline.vae_scale_factor,) * 2,
    times=times,
    lora_targets=("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0"),
    miniature=tiny_pipeline,
    tiny_settings=CogView4Settings(resolution=32, max_sequence_length=40),
)
