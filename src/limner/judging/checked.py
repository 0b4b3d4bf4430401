"""What a judge may return, and the one form it is brought to before anything reads it."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from limner.core.ambient import torch_as_it_was
from limner.core.errors import BrokenReward, JudgeFailure, LimnerError, OutOfMemory, UserError, message, shown
from limner.core.media import Media
from limner.core.protocols import Reward
from limner.core.shortage import asked, is_short
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.judging.spec import spec_of

logger = logging.getLogger(__name__)

PACKAGE = Path(__file__).parents[1]
MAX_NAME = 100
"""Characters of a component's name, or a map's."""

Place = Callable[[Tensor], Tensor]
"""Says where numbers are kept, in which precision, and whether with gradients."""


@dataclass(frozen=True)
class Checked:
    """A reward as a judge: its answers are brought to one form.

    A reward may return a tensor, array or list of one number a sample, or a RewardOutput. A score that is not finite is
    invalid, and an invalid score is NaN: never zero. One that raises JudgeFailure has judged none of its batch.
    Raises UserError if the answer is not one number a sample, and BrokenReward if there is none but an exception.
    """

    name: str
    reward: Reward

    @property
    def spec(self) -> RewardSpec:
        """What the reward says about itself."""
        return spec_of(self.name, self.reward)

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        """Judge what a file would hold: float64 on the CPU, without gradients."""
        return self._ask(media.rounded(), prompts, lambda x: x.detach().cpu().double())

    def differentiable(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        """Judge what is given, not rounded: in its precision, on its device and with gradients."""
        if not self.spec.differentiable:
            raise UserError(f"reward {self.name!r} is not differentiable: no gradient reaches what it judges")
        return self._ask(media, prompts, lambda x: x if x.is_floating_point() else x.float())

    def _ask(self, media: Media, prompts: Sequence[Prompt], place: Place) -> RewardOutput:
        try:
            with torch_as_it_was(seeds=False):
                answer = self.reward(media, prompts)
        except JudgeFailure as failure:
            logger.warning("reward %r did not judge %d samples: %s", self.name, len(media), failure)
            nothing = torch.full((len(media),), torch.nan, dtype=torch.float64)
            return RewardOutput(nothing, nothing.isfinite())
        except LimnerError:
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if is_short(error):
                raise OutOfMemory(f"reward {self.name!r}", asked(error)) from error
            raise BrokenReward(f"reward {self.name!r} raised {_told(error)}") from error
        return _formed(self.name, answer, len(media), place)


def _formed(name: str, answer: Any, batch: int, place: Place) -> RewardOutput:
    if not isinstance(answer, RewardOutput):
        answer = RewardOutput(place(_column(name, answer, batch)), torch.ones(batch, dtype=torch.bool))
    score = place(_column(name, answer.score, batch))
    valid = _flags(name, answer.valid, batch).to(score.device) & score.isfinite()
    for what, named in (("components", answer.components), ("maps", answer.maps)):
        if not isinstance(named, Mapping):
            raise UserError(f"reward {name!r}: expected `{what}` to be a dict of names, got {_describe(named)}")
        for part in named:
            if not isinstance(part, str) or not part.isprintable() or not 0 < len(part) <= MAX_NAME:
                raise UserError(f"reward {name!r}: names in `{what}` are short texts, got {shown(part)}")
    parts = {part: place(_column(f"{name}/{part}", values, batch)) for part, values in answer.components.items()}
    if (sigma := answer.uncertainty) is not None:
        sigma = place(_column(f"{name}/uncertainty", sigma, batch))
        if (sigma < 0).any():
            raise UserError(f"reward {name!r}: an uncertainty is a standard deviation, 0 or more, got {sigma.min():g}")
    said = answer.explanation
    if not isinstance(said, (list, tuple)) or not all(each is None or isinstance(each, str) for each in said):
        raise UserError(f"reward {name!r}: expected `explanation` to be a list of texts, got {_describe(said)}")
    if said and len(said) != batch:
        raise UserError(f"reward {name!r}: expected {batch} explanations, one a sample, got {len(said)}")
    maps = {part: place(_map(f"{name}/{part}", values, batch)) for part, values in answer.maps.items()}
    return RewardOutput(score.masked_fill(~valid, torch.nan), valid, parts, sigma, tuple(said), maps)


def told(answers: Mapping[str, RewardOutput]) -> dict[str, Float[Tensor, " batch"]]:
    """Return the columns of judges' answers: `name`, `name/part` and `name/uncertainty`, NaN where not judged."""
    found = {}
    for name, output in answers.items():
        found[name] = output.score.masked_fill(~output.valid, torch.nan)
        found |= {f"{name}/{part}": values for part, values in output.components.items()}
        if output.uncertainty is not None:
            if "uncertainty" in output.components:
                raise UserError(f"reward {name!r} reports a component 'uncertainty' and an uncertainty: rename the one")
            found[f"{name}/uncertainty"] = output.uncertainty
    return found


def explained(answers: Mapping[str, RewardOutput]) -> Sequence[str | None]:
    """Return what judges say for people of each sample, by their names if they are several; nothing if none does."""
    said = {name: output.explanation for name, output in answers.items() if output.explanation}
    if len(said) < 2:
        return next(iter(said.values()), ())
    rows = zip(*said.values(), strict=True)
    return [" | ".join(f"{name}: {text}" for name, text in zip(said, row, strict=True) if text) or None for row in rows]


def _flags(name: str, valid: Any, batch: int) -> Bool[Tensor, " batch"]:
    """Return which scores count, told by a tensor, an array or a list."""
    listed = isinstance(valid, (list, tuple)) and all(isinstance(flag, (bool, np.bool_)) for flag in valid)
    flags = torch.as_tensor(valid) if listed or isinstance(valid, (Tensor, np.ndarray)) else None
    if flags is None or flags.dtype != torch.bool or flags.shape != (batch,):
        raise UserError(f"reward {name!r}: expected `valid` to be bool of shape ({batch},), got {_describe(valid)}")
    return flags.detach()


def _column(name: str, scores: Any, batch: int) -> Float[Tensor, " batch"]:
    """Return scores as a tensor of shape (batch,); what an array masks is NaN."""
    expected = f"reward {name!r}: expected one number a sample, shape ({batch},), got"
    if not isinstance(scores, (Tensor, np.ndarray, list, tuple)):
        raise UserError(f"{expected} {_describe(scores)}{_more(scores)}")
    try:
        column = torch.as_tensor(_native(scores), dtype=torch.float64 if isinstance(scores, (list, tuple)) else None)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise UserError(f"{expected} {_describe(scores)}{_more(scores)}") from error
    if column.shape != (batch,) or column.is_complex() or column.is_meta or column.layout is not torch.strided:
        raise UserError(f"{expected} {_describe(column)}")
    return column


def _native(scores: Any) -> Any:
    """Return an array of numbers as torch takes it, whatever their width, order of bytes, and strides."""
    if not isinstance(scores, np.ndarray) or scores.dtype.kind not in "biuf":
        return scores
    return np.ma.filled(scores.astype(np.float64), np.nan).copy()


def _map(name: str, values: Any, batch: int) -> Float[Tensor, "batch rows columns"]:
    """Return maps, which must be of shape (batch, rows, columns)."""
    if isinstance(values, np.ndarray):
        values = torch.as_tensor(values)
    if not isinstance(values, Tensor) or values.ndim != 3 or len(values) != batch:
        raise UserError(f"reward {name!r}: expected a map a sample, ({batch}, rows, columns), got {_describe(values)}")
    return values


def _more(answer: Any) -> str:
    """Return what to write instead for an answer that says more than scores in a form of its own."""
    several = isinstance(answer, (list, tuple)) and any(not isinstance(each, (int, float)) for each in answer)
    said = isinstance(answer, dict) or several
    return "; to say more than a score, return limner.RewardOutput(score, valid, components={...})" if said else ""


def _told(error: BaseException) -> str:
    """Return kind, place in the reward's own file, and message of an error, on one line."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    theirs = [frame for frame in frames if not Path(frame.filename).is_relative_to(PACKAGE)] or frames
    own = [frame for frame in theirs if frame.filename == theirs[0].filename]
    place = f" at line {own[-1].lineno} of {Path(own[-1].filename).name}" if own else ""
    return f"{type(error).__name__}{place}: {message(error)}"


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        kind = "meta " if value.is_meta else "" if value.layout is torch.strided else "sparse "
        return f"{kind}{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} array of shape {value.shape}"
    if isinstance(value, (list, tuple)):
        kinds = sorted({type(item).__name__ for item in value})
        return f"{type(value).__name__} of length {len(value)} holding {', '.join(kinds) or 'nothing'}"
    return "None (does the function return?)" if value is None else type(value).__name__
