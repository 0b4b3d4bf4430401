"""A judge in workers of a Ray cluster, with an environment and resources of its own: `ray(pickscore, gpus=1)`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from limner.cluster.pool import Asked, Lost, Pool
from limner.core.errors import JudgeFailure
from limner.core.media import Media
from limner.core.protocols import Judge
from limner.core.tree import select
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.judging.rows import Row, from_rows, to_rows

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Placed:
    """The judge that each worker of `pool` holds, asked there: samples are divided among the workers.

    Scores are those of the same judge in this process, to the bit, if it judges a sample alike in any batch. What a
    worker raises is raised here. Samples whose worker was lost are not judged, and leave their groups.
    Raises JudgeFailure if nothing of a batch was judged.
    """

    text: str
    """The judge as it is written, which is what its answers are kept by."""
    pool: Pool
    spec: RewardSpec

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        parts = [rows for rows in torch.arange(len(media)).tensor_split(self.pool.place.workers) if len(rows)]
        asked = [self.pool.ask(judged, select(media, rows), [prompts[i] for i in rows.tolist()]) for rows in parts]
        answers = [self._answer(each) for each in asked]
        lost = [answer for answer in answers if isinstance(answer, Lost)]
        if len(lost) == len(parts) > 0:
            raise JudgeFailure(str(lost[0]))
        for failure in lost:
            logger.warning("some samples were not judged: %s", failure)
        blank: Row = {"ok": False}
        rows = [[blank] * len(p) if isinstance(a, Lost) else a for p, a in zip(parts, answers, strict=True)]
        return from_rows([row for part in rows for row in part])

    def _answer(self, asked: Asked) -> Sequence[Row] | Lost:
        try:
            return self.pool.answer(asked)
        except Lost as lost:
            return lost


def spec_of_worker(judge: Judge) -> RewardSpec:
    """Return, in a worker, what its judge says about itself."""
    return judge.spec


def judged(judge: Judge, media: Media, prompts: Sequence[Prompt]) -> Sequence[Row]:
    """Return, in a worker, what its judge says of each sample."""
    return to_rows(judge(media, prompts))
