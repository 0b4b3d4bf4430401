"""Whether a sampler can draw from a model: the annotation of its `policy` says what it draws from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from limner.core.errors import UserError
from limner.core.protocols import Denoiser
from limner.policies.masked import MaskedModel
from limner.policies.one_step import OneStepModel
from limner.policies.tokens import TokenModel

DRAWN_BY: Mapping[Any, str] = {
    Denoiser: "Sampler",
    TokenModel: "TokenSampler",
    MaskedModel: "MaskedSampler",
    OneStepModel: "OneStepSampler",
}
"""The sampler that is usual for each kind of model."""


def require_fit(sampler: Any, model: Any) -> None:
    """Raise UserError for a model of another kind than the sampler draws from; one of the user's own may be any."""
    said: Any = get_type_hints(type(sampler).policy).get("model")
    wanted = get_args(said) or (said,)
    if all(kind in DRAWN_BY for kind in wanted) and not isinstance(model, wanted):
        kinds = " or ".join(kind.__name__ for kind in wanted)
        fit = [name for kind, name in DRAWN_BY.items() if isinstance(model, kind)]
        raise UserError(
            f"sampler {type(sampler).__name__} draws from a {kinds}, which {type(model).__name__} is not: "
            + (f"take --sampler {' or '.join(fit)}" if fit else "take another model")
        )
