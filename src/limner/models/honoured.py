"""What an adapter honours of the configuration of a pipeline's parts, declared field by field; all else is refused.

A field that changes what a network computes, and that nobody here reads, would make every sample and every gradient
quietly wrong: an autoencoder's `latents_mean`, a guidance embedding, the nine channels of an inpainting network.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from limner.core.errors import UserError


@dataclass(frozen=True)
class Honoured:
    """The fields of a part's configuration, and what they may be.

    `free` ones may be anything: the part itself computes by them, or the adapter reads them. `idle` ones may too, for
    they cannot change what is computed here. One of `only` has one of these values. A field that stands in none of the
    three is not known: it may be as the class has it by default, or None or false.
    """

    classes: tuple[str, ...]
    """Names of the library's classes that the part may be of."""
    free: frozenset[str]
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    idle: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()
    """Of the free ones those that the adapter computes with; None only if the class has it so by default."""

    @property
    def known(self) -> frozenset[str]:
        """All fields that were decided about."""
        return self.free | self.idle | frozenset(self.only)

    def require(self, name: str, part: Any) -> None:
        """Raise UserError, which names the field, for a part that would be computed otherwise than it was made for."""
        kind = type(part).__name__
        if kind not in self.classes:
            raise UserError(f"model: {name} is a {kind}; limner serves a {' or '.join(self.classes)} here")
        defaults = {key: each.default for key, each in inspect.signature(type(part).__init__).parameters.items()}
        for key, value in part.config.items():
            if key in self.numbers and not (_is_number(value) or value is defaults.get(key) is None):
                raise UserError(
                    f"model: {name} has {key} {_short(value)}, which is no finite number; download it again"
                )
            if key.startswith("_") or key in self.free | self.idle:
                continue
            allowed = self.only.get(key, (defaults.get(key), None, False))
            if not any(value is each or value == each for each in allowed):
                said = " or ".join(dict.fromkeys(map(str, allowed))) if key in self.only else "not set"
                raise UserError(
                    f"model: {name} has {key} {_short(value)}, which limner does not implement (it must be {said}): "
                    "its samples would be wrong; take another model"
                )


def require_equal(what: str, value: object, other: str, expected: object) -> None:
    """Raise UserError where two parts of a pipeline do not fit each other."""
    if value != expected:
        raise UserError(f"model: {what} {value}, and {other} {expected}: the parts do not belong together")


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(cast(float, value))


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


AUTOENCODER = Honoured(
    classes=("AutoencoderKL",),
    free=frozenset(
        "act_fn block_out_channels down_block_types latent_channels layers_per_block mid_block_add_attention "
        "norm_num_groups scaling_factor shift_factor up_block_types use_post_quant_conv use_quant_conv".split()
    ),
    only={"in_channels": (3,), "out_channels": (3,), "latents_mean": (None,), "latents_std": (None,)},
    numbers=frozenset({"scaling_factor", "shift_factor"}),
    idle=frozenset({"force_upcast", "sample_size"}),  # it is float32 always, and decodes whole pictures, not tiles
)

UNSHIFTED = replace(  # diffusers' older pipelines decode without a shift
    AUTOENCODER,
    free=AUTOENCODER.free - {"shift_factor"},
    only={**AUTOENCODER.only, "shift_factor": (None, 0)},
)

FLOW = Honoured(
    classes=("FlowMatchEulerDiscreteScheduler",),
    free=frozenset(  # the scheduler's own grid is what is sampled on
        "base_image_seq_len base_shift max_image_seq_len max_shift num_train_timesteps shift shift_terminal "
        "time_shift_type use_beta_sigmas use_dynamic_shifting use_exponential_sigmas use_karras_sigmas".split()
    ),
    only={"invert_sigmas": (False,), "stochastic_sampling": (False,)},
)

FLOW_SIGMAS: Mapping[str, tuple[Any, ...]] = {
    "final_sigmas_type": ("zero",),
    "prediction_type": ("flow_prediction",),
    "thresholding": (False,),
    "use_beta_sigmas": (False,),
    "use_dynamic_shifting": (False,),
    "use_exponential_sigmas": (False,),
    "use_flow_sigmas": (True,),
    "use_karras_sigmas": (False,),
}
"""What a solver of several steps has to say, so that it goes along a flow's own levels."""
MULTISTEP = Honoured(
    classes=("UniPCMultistepScheduler",),
    free=frozenset({"flow_shift", "num_train_timesteps", "shift_terminal"}),
    only=FLOW_SIGMAS,
    idle=frozenset(  # how diffusers' own solver steps, and chains of other models
        "beta_end beta_schedule beta_start disable_corrector dynamic_thresholding_ratio lower_order_final predict_x0 "
        "rescale_betas_zero_snr sample_max_value sigma_max sigma_min solver_order solver_p solver_type steps_offset "
        "time_shift_type timestep_spacing trained_betas".split()
    ),
)
"""A solver whose times are a flow's; limner takes its times, and steps by its own sampler."""


def require_parts(
    pipeline: Any,
    transformer: Honoured,
    autoencoder: Honoured = AUTOENCODER,
    cells: int = 1,
    scheduler: Honoured = FLOW,
) -> None:
    """Raise UserError for a flow pipeline of which a part is not honoured, or whose latents do not fit its transformer.

    A token of the transformer's input has the channels of one latent pixel, or, `cells` 4, of four.
    """
    scheduler.require("scheduler", pipeline.scheduler)
    transformer.require("transformer", pipeline.transformer)
    autoencoder.require("vae", pipeline.vae)
    config = pipeline.vae.config
    latent = config.z_dim if "z_dim" in config else config.latent_channels
    whose = "the vae has latent_channels" if cells == 1 else "four latent pixels of the vae have"
    require_equal("transformer has in_channels", pipeline.transformer.config.in_channels, whose, cells * latent)
