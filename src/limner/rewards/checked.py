"""What a judge may return, and the one form it is brought to before anything reads it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from limner.core.errors import JudgeFailure, UserError
from limner.core.protocols import Judge, Reward
from limner.core.types import Images, Media, Prompt, RewardOutput

logger = logging.getLogger(__name__)


def checked(name: str, reward: Reward) -> Judge:
    """Return `reward` with its answer brought to one form: float32 scores on the CPU, and which of them count.

    A reward may return a tensor, array or list of one number a sample, or a RewardOutput. A score that is not finite is
    invalid, and an invalid score is NaN: never zero. Pictures are rounded to 8 bits first: a judge sees what is saved.
    Raises UserError if the answer is not one number a sample.
    """

    def judge(media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        batch = len(media)
        try:
            answer = reward(media.rounded() if isinstance(media, Images) else media, prompts)
        except JudgeFailure as failure:
            logger.warning("reward %r did not judge %d samples: %s", name, batch, failure)
            return RewardOutput(torch.full((batch,), torch.nan), torch.zeros(batch, dtype=torch.bool))
        if not isinstance(answer, RewardOutput):
            answer = RewardOutput(_column(name, answer, batch), torch.ones(batch, dtype=torch.bool))
        score = _column(name, answer.score, batch)
        valid = answer.valid.detach().cpu()
        if valid.dtype != torch.bool or valid.shape != (batch,):
            raise UserError(f"reward {name!r}: expected `valid` to be bool of shape ({batch},), got {_describe(valid)}")
        valid = valid & score.isfinite()
        parts = {part: _column(f"{name}/{part}", values, batch) for part, values in answer.components.items()}
        if (sigma := answer.uncertainty) is not None:
            sigma = _column(f"{name}/uncertainty", sigma, batch)
        if answer.explanation and len(answer.explanation) != batch:
            raise UserError(
                f"reward {name!r}: expected {batch} explanations, one a sample, got {len(answer.explanation)}"
            )
        maps = {part: _map(f"{name}/{part}", values, batch) for part, values in answer.maps.items()}
        score = score.masked_fill(~valid, torch.nan)
        return RewardOutput(score, valid, parts, sigma, tuple(answer.explanation), maps)

    return judge


def _column(name: str, scores: Any, batch: int) -> Float[Tensor, " batch"]:
    """Return scores as float32 of shape (batch,) on the CPU."""
    expected = f"reward {name!r}: expected one number a sample, shape ({batch},), got"
    if not isinstance(scores, (Tensor, np.ndarray, list, tuple)):
        raise UserError(f"{expected} {_describe(scores)}")
    try:
        column = torch.as_tensor(scores).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{expected} {_describe(scores)}") from error
    if column.shape != (batch,) or column.is_complex():
        raise UserError(f"{expected} {_describe(column)}")
    return column.to("cpu", torch.float32)


def _map(name: str, values: Any, batch: int) -> Float[Tensor, "batch rows columns"]:
    """Return maps as float32 of shape (batch, rows, columns) on the CPU."""
    if not isinstance(values, Tensor) or values.ndim != 3 or len(values) != batch:
        raise UserError(f"reward {name!r}: expected a map a sample, ({batch}, rows, columns), got {_describe(values)}")
    return values.detach().to("cpu", torch.float32)


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} array of shape {value.shape}"
    if isinstance(value, (list, tuple)):
        kinds = sorted({type(item).__name__ for item in value})
        return f"{type(value).__name__} of length {len(value)} holding {', '.join(kinds) or 'nothing'}"
    return "None (does the function return?)" if value is None else type(value).__name__
