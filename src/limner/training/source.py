"""Where the judged samples of an iteration come from: they are drawn and judged, or given.

A source is a frozen dataclass of settings, the value of `RunConfig.source`: `Drawn` (the default), `Pictures`,
`Preferences`, or one of yours, `--source my_file.py:MySource`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limner.core.media import Media
from limner.core.protocols import Jury, Policy
from limner.core.rng import Rng
from limner.core.settings import Range, settings
from limner.core.team import Team
from limner.core.tree import select
from limner.core.types import Prompt, RewardSpec, Rollout, Scored
from limner.data.sampler import PromptSampler
from limner.rollout.audience import Audience, Overlap
from limner.rollout.collect import EncodeCache, collect
from limner.rollout.score import Decode, judge
from limner.training.judged import Library

Phase = Callable[[str], AbstractContextManager[None]]
"""Names what a block of work is, for the progress line and the clock: "rollout", "reward"."""


class Judges(Jury, Protocol):
    """The judges of a run as they were put together: specs by column, and what asks those alone that are here."""

    def specs(self) -> Mapping[str, RewardSpec]: ...

    def local(self) -> Jury: ...


@dataclass(frozen=True)
class Studio:
    """What a source may use."""

    policy: Policy
    """The policy that draws samples: the old one if the algorithm keeps one, else the trained one."""
    record: bool
    """Whether the algorithm asks for the path."""
    prompts: Sequence[Prompt]
    sampler: PromptSampler
    group_size: int
    micro_batch: int
    overlap: Overlap
    cache: EncodeCache
    encode: Callable[[Media], Tensor]
    pictures: Callable[[str, int], tuple[Tensor, Sequence[Prompt]]]
    """The latents and prompts of a folder, or of so many pairs of a world; encoded once."""
    judged: Callable[[Preferences], Library]
    """Pictures that were compared; encoded once."""
    decode: Decode
    look: Callable[[Media, Sequence[Prompt]], Tensor | None]
    """What the focus sees at each place of the latent; it gives None if it does not look."""
    reward: Judges
    team: Team


class Source(Protocol):
    """Gives the judged samples of an iteration."""

    @property
    def draws(self) -> bool:
        """Whether samples are drawn by the policy, which then has recorded decisions; else they are given."""
        ...

    def scored(
        self, studio: Studio, step: int, count: int, rng: Rng, phase: Phase, memory: dict[str, Any] | None = None
    ) -> Scored:
        """Return this process's share of `count` groups of iteration `step`; `memory` is what the reward remembers."""
        ...


@dataclass(frozen=True)
class Drawn:
    """The policy draws a group of samples for each prompt, and the reward judges them."""

    @property
    def draws(self) -> bool:
        """They are drawn."""
        return True

    def scored(
        self, studio: Studio, step: int, count: int, rng: Rng, phase: Phase, memory: dict[str, Any] | None = None
    ) -> Scored:
        """Draw and judge; with overlap, samples are decoded and judged while the next ones are drawn."""
        overlap = studio.overlap if studio.team.speaks else replace(studio.overlap, judging=False)
        with Audience(studio.reward, studio.decode, studio.micro_batch, overlap) as audience:
            with phase("rollout"):
                chosen = [studio.prompts[i] for i in studio.sampler.indices(step)[:count].tolist()]
                rollout = collect(
                    studio.policy.at(step),
                    studio.cache,
                    chosen,
                    studio.group_size,
                    rng=rng,
                    step=step,
                    record=studio.record,
                    micro_batch=studio.micro_batch,
                    team=studio.team,
                    drawn=audience.show,
                )
            with phase("reward"):
                scored = judge(rollout, audience.seen, audience, studio.micro_batch, memory, studio.team)
                return looked_at(studio, scored, audience.seen.media)


def looked_at(studio: Studio, scored: Scored, media: Media) -> Scored:
    """Return the samples with what the focus sees of them, `micro_batch` at a time."""
    prompts, parts = scored.rollout.prompt_of(), []
    with torch.no_grad():
        for rows in torch.arange(len(prompts)).split(studio.micro_batch):
            seen = studio.look(select(media, rows), [prompts[i] for i in rows.tolist()])
            if seen is None:
                return scored
            parts.append(seen)
    return replace(scored, places=torch.cat(parts))


@settings
class Pictures:
    """Pictures with prompts, each a group of its own and worth 1: RewardWeighted(weight="reward") fine-tunes on them.

    `data` is a folder with pictures and metadata.jsonl, or a world, of which `num_pairs` clean pairs are drawn.
    """

    data: str = ""
    num_pairs: Annotated[int, Range(least=1, most=10**7)] = 2000

    @property
    def draws(self) -> bool:
        """They are given."""
        return False

    def scored(
        self, studio: Studio, step: int, count: int, rng: Rng, phase: Phase, memory: dict[str, Any] | None = None
    ) -> Scored:
        """Choose `count` pictures at random, with replacement."""
        latents, prompts = studio.pictures(self.data, self.num_pairs)
        chosen = torch.randint(len(prompts), (count,), generator=rng.child("rows").generator())
        mine = torch.tensor(studio.team.share(count))
        rows = chosen[mine]
        worth = torch.ones(len(rows))
        return given(studio, [prompts[i] for i in rows.tolist()], latents[rows], worth, mine, mine, step)


@settings
class Preferences:
    """What people, or a judge, said of pictures: which of two is better, how several rank, whether one is liked.

    `data` is a .jsonl, .csv or .parquet file, or a folder; see `limner.data.preferences`. Of two folders with pictures
    of equal names it is that of the better ones, and `worse` the other; `masks` is a folder of masks, bright where the
    pictures of that name count, and nowhere else. `broken`: whether a row or file that cannot be read stops the run.
    """

    data: str = ""
    worse: str = ""
    masks: str = ""
    broken: Literal["refuse", "skip"] = "refuse"
    segments: bool = True
    """Whether pairs of clips whose segments were judged are learned from segment by segment; else as a whole."""
    unpair: bool = False
    """Whether each picture of a pair is learned from by itself, liked or not by what it is worth.

    That is for algorithms that learn from single pictures; a step still takes both.
    """

    @property
    def draws(self) -> bool:
        """They are given."""
        return False

    def scored(
        self, studio: Studio, step: int, count: int, rng: Rng, phase: Phase, memory: dict[str, Any] | None = None
    ) -> Scored:
        """Choose the next `count` of them, in an order that is drawn anew for each epoch; each is a group."""
        library = studio.judged(self)
        chosen = replace(studio.sampler, num_prompts=len(library.judged)).indices(step)[:count].tolist()
        mine = list(studio.team.share(count))
        groups = [library.judged[chosen[i]] for i in mine]
        most = max(len(each.rows) for each in library.judged)
        group = torch.tensor([i for i, each in zip(mine, groups, strict=True) for _ in each.rows], dtype=torch.long)
        id = torch.tensor([i * most + k for i, each in zip(mine, groups, strict=True) for k in range(len(each.rows))])
        rows = torch.tensor([row for each in groups for row in each.rows], dtype=torch.long)
        worth = torch.tensor([w for each in groups for w in each.worth], dtype=torch.float64)
        place = torch.tensor([each.region for each in groups for _ in each.rows], dtype=torch.long)
        region = library.regions[place] if len(library.regions) > 1 else None
        prompts = [each.prompt for each in groups for _ in each.rows]
        return given(studio, prompts, library.latents[rows], worth, group, id, step, region)


def given(
    studio: Studio,
    prompts: Sequence[Prompt],
    sample: Float[Tensor, "batch *latent"],
    total: Float[Tensor, " batch"],
    group: Int[Tensor, " batch"],
    id: Int[Tensor, " batch"],
    step: int,
    region: Float[Tensor, "batch *where"] | None = None,
) -> Scored:
    """Return samples that are known, each with its prompt and what it is worth; those of one `group` are compared.

    `sample` are latents, as `studio.encode` makes them of media; `id` names a sample in the iteration of all processes;
    `region` says where a sample counts (`Rollout.region`).
    """
    place = torch.arange(len(prompts))
    condition = studio.cache.condition(prompts)
    rollout = Rollout(prompts, group, place, condition, sample, None, id, step, region)
    return Scored(rollout, {"given": total}, total.isfinite(), total)
