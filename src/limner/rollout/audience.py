"""Who is shown the samples as they are drawn: they may be decoded, and judged, while the next ones are drawn."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limner.core.media import Media, Shown
from limner.core.protocols import Jury
from limner.core.tree import concatenate, leaves, select
from limner.core.types import Composed, Prompt
from limner.rollout.score import Decode, render

Columns = dict[str, Tensor]


@dataclass(frozen=True)
class Overlap:
    """What is done while the next samples are drawn, and not before."""

    judging: bool = False
    decoding: bool = False


@dataclass
class Audience:
    """A composition that is shown samples as they are drawn, keeps what they show (`seen`), and is then judged with.

    With `overlap.judging` its judges are asked at once, while the next samples are drawn; else when these are judged.
    They run in one thread, in order, on the very micro-batches that `limner.rollout.score.judge` makes; with
    `overlap.decoding` samples are decoded in another, in order, and one micro-batch waits at most: the sampler does, if
    it is ahead. So the outcome is that of the plain composition, to the bit. What a judge raises is raised where its
    columns are read, what decoding raises where the next samples are shown. Use it as a context: on the way out, what
    was not begun is not done any more.
    """

    reward: Jury
    decode: Decode
    micro_batch: int
    overlap: Overlap = Overlap()
    _decoder: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "decoder"), init=False)
    _decoding: Future[None] | None = field(default=None, init=False)
    """The samples that were shown last, being decoded."""
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "judges"), init=False)
    _seen: list[Shown] = field(default_factory=list, init=False)
    _asked: deque[tuple[Media, Future[Columns]]] = field(default_factory=deque, init=False)
    _media: list[Media] = field(default_factory=list, init=False)
    """Finite samples that do not yet fill a micro-batch."""
    _prompts: list[Prompt] = field(default_factory=list, init=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._decoder.shutdown(wait=True, cancel_futures=True)
        self._thread.shutdown(wait=True, cancel_futures=True)

    @property
    def seen(self) -> Shown:
        """What all samples show."""
        self._settle()
        return concatenate(self._seen)

    def show(self, sample: Float[Tensor, "batch *latent"], prompts: Sequence[Prompt]) -> None:
        """Render the next samples, and ask about them if there is overlap; those that are not finite are left out."""
        self._settle()
        if self.overlap.decoding:
            self._decoding = self._decoder.submit(self._show, sample.cpu(), prompts)
        else:
            self._show(sample, prompts)

    def _settle(self) -> None:
        """Wait until all that was shown is decoded."""
        if self._decoding is not None:
            self._decoding.result()
            self._decoding = None

    def _show(self, sample: Float[Tensor, "batch *latent"], prompts: Sequence[Prompt]) -> None:
        new = render(sample, self.decode, self.micro_batch)
        self._seen.append(new)
        if not self.overlap.judging:
            return
        finite = new.finite.nonzero()[:, 0]
        if len(finite):
            self._media.append(select(new.media, finite))
            self._prompts += [prompts[i] for i in finite.tolist()]
        while len(self._prompts) >= self.micro_batch:
            self._ask(self.micro_batch)

    def columns(self, media: Media, prompts: Sequence[Prompt]) -> Columns:
        """Return what the judges say of the next micro-batch. Raises ValueError if it is not the one that was shown."""
        if not self.overlap.judging:
            return self.reward.columns(media, prompts)
        self._settle()
        if not self._asked and self._prompts:
            self._ask(len(self._prompts))
        shown, future = self._asked.popleft() if self._asked else (None, None)
        if shown is None or future is None or not _same(shown, media):
            raise ValueError("judges are asked about other samples, or in another order, than they were shown")
        return future.result()

    def comparisons(
        self, media: Media, prompts: Sequence[Prompt], group: Int[Tensor, " batch"]
    ) -> dict[str, Float[Tensor, " batch"]]:
        """Return the composition's own: whole groups are compared, when all samples are there."""
        return self.reward.comparisons(media, prompts, group)

    def total(
        self,
        columns: Mapping[str, Float[Tensor, " batch"]],
        group: Int[Tensor, " batch"],
        step: int = 0,
        memory: dict[str, Any] | None = None,
    ) -> Composed:
        """Return the composition's own."""
        return self.reward.total(columns, group, step, memory)

    def _ask(self, count: int) -> None:
        """Hand the first `count` waiting samples to the thread."""
        waiting = concatenate(self._media)
        chosen, left = select(waiting, torch.arange(count)), select(waiting, torch.arange(count, len(waiting)))
        prompts, self._prompts = self._prompts[:count], self._prompts[count:]
        self._media = [left] if self._prompts else []
        self._asked.append((chosen, self._thread.submit(self._columns, chosen, prompts)))

    def _columns(self, media: Media, prompts: Sequence[Prompt]) -> Columns:
        with torch.no_grad():  # this thread's own; the sampler's does not hold here
            return self.reward.columns(media, prompts)


def _same(shown: Media, media: Media) -> bool:
    pairs = list(zip(leaves(shown), leaves(media), strict=True))
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)
