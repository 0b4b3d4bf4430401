"""How to make a run fit a card: the settings that limner has, the cheapest first, each with the peak that it leads to.

Fewer samples decoded at once, smaller passes, decisions that wait in the machine's memory, and prompts that are encoded
there change nothing but the time; tiles, for a sample that cannot be decoded whole, blend; checkpoints are paid for in
operations; weights in parts cross over between processes in each pass, and frozen blocks that wait in the machine's
memory between it and the card; half precision rounds, a frozen base in 4 bits more so; fewer groups, and smaller
pictures, make it another run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import islice
from typing import Any

from limner.core.errors import UserError
from limner.machine.cost import Cost, Sizes, sizes
from limner.machine.memory import Phase, Place, peak, phases
from limner.machine.prices import AWAY, BFLOAT16, CHECKPOINTING, CODED, ENCODED, HOST, SHARD, TILED, flags, price
from limner.recipes.override import override
from limner.training.config import RunConfig
from limner.training.workload import Workload, workload

NUM_WAYS = 3
FEW = "model.decode_batch"
FREE = HOST.keys() | SHARD.keys() | ENCODED.keys() | {FEW}
"""Keys that change nothing of what a model takes by itself."""
NOTHING = Cost(0.0, 0.0, 0.0)
SIZE = "model.settings."
"""What the keys of a sample's size begin with."""
ALIKE = ("none", "none", "adamw")
"""Shard, codes and optimizer of a run whose weights can be put in parts."""


@dataclass(frozen=True)
class Way:
    """Keys that make a run fit, the peak that they lead to, in bytes, in which phase, and what they cost."""

    keys: Mapping[str, str]
    peak: float
    phase: str
    price: str

    @property
    def flags(self) -> str:
        """As they are typed."""
        return flags(self.keys)


def ways(config: RunConfig, work: Workload, place: Place, room: float) -> tuple[Way, ...]:
    """Return the cheapest ways, three at most, in which a run takes no more than `room` bytes; () if there is none."""
    return tuple(islice(_Search(config, work, place, room).found(), NUM_WAYS))


@dataclass(frozen=True, eq=False)
class _Search:
    config: RunConfig
    work: Workload
    place: Place
    room: float

    @cached_property
    def _known(self) -> Callable[..., Sizes | None]:
        """Return what a run takes with keys that are given as pairs, each measured once."""
        return cache(lambda *keys: self._sizes(dict(keys)))

    def found(self) -> Iterator[Way]:
        """Yield ways, cheapest first: passes, where decisions wait, what passes keep, bits, weights, groups, pixels.

        Frozen weights are first in parts, then on the host, then in 4 bits.
        """
        measure = lambda *keys: self._known(*(each for each in keys if each[0] not in FREE))  # noqa: E731
        kinds = [{}, *([CHECKPOINTING] if not self.config.precision.activation_checkpointing else [])]
        if self.config.precision.dtype == "float32":
            kinds += [{**kind, **BFLOAT16} for kind in kinds]
        if self.place.accelerator and self.work.recorded and self.work.on_device:
            kinds = [{**kind, **where} for kind in kinds for where in ({}, HOST)]
        if self._encoding_is_too_much(measure()):
            kinds = [{**kind, **ENCODED} for kind in kinds]
        for keys in kinds:
            found: Sizes | None = measure(*keys.items())
            if found is not None and (way := self._passes(keys, found)) is not None:
                yield way
        yield from self._spread(kinds, measure)
        yield from self._away(kinds[-1], measure)
        if not self.config.model.train.whole and self.config.model.quantize == "none":
            coded = {**kinds[-1], **CODED}
            found = measure(*coded.items())
            if found is not None and (way := self._passes(coded, found)) is not None:
                yield way
        for keys in kinds:
            found = measure(*keys.items())
            if found is not None and (way := self._groups(keys, found)) is not None:
                yield way
        yield from self._smaller(kinds[-1], measure())

    def _encoding_is_too_much(self, found: Sizes | None) -> bool:
        """Return whether text encoders have no room beside what stays, so that smaller passes alone do not help."""
        if found is None or not self.place.accelerator or self.config.model.encoders == "cpu":
            return False
        return phases(found, self.work, self.place)[0].peak > self.room

    def _spread(self, kinds: Sequence[Mapping[str, str]], measure: Callable[..., Sizes | None]) -> Iterator[Way]:
        """Yield the way of weights in parts, alone or with all else, where there are processes that can share them."""
        config = self.config
        alike = (config.shard, config.model.quantize, config.optimizer.kind) == ALIKE and config.context == 1
        if self.work.processes == 1 or not alike:
            return
        for keys in (kinds[0], kinds[-1]):
            found = measure(*keys.items())
            if found is not None and (way := self._passes({**keys, **SHARD}, found)) is not None:
                yield way
                return

    def _away(self, keys: Mapping[str, str], measure: Callable[..., Sizes | None]) -> Iterator[Way]:
        """Yield the way of a frozen base whose blocks wait in the machine's memory, beside all else."""
        model, spread = self.config.model, (self.config.shard, self.config.model.quantize)
        if not self.place.accelerator or model.train.whole or spread != ALIKE[:2] or model.offload != "none":
            return
        keys = {**keys, **AWAY} if self.config.precision.activation_checkpointing else {**CHECKPOINTING, **keys, **AWAY}
        found = measure(*keys.items())
        if found is not None and (way := self._passes(keys, found)) is not None:
            yield way

    def _sizes(self, keys: Mapping[str, str]) -> Sizes | None:
        try:
            return sizes(override(self.config, keys))
        except UserError:  # a network without checkpoints, a size that a model does not have: no way
            return None

    def _passes(self, keys: Mapping[str, str], found: Sizes) -> Way | None:
        """Return the way of the largest micro-batch that fits: this one, its half, and so on; never this run itself."""
        least, size = (2 if self.config.algorithm.needs.pairs else 1), self.config.micro_batch
        while size >= least:
            changed = dict(keys) if size == self.config.micro_batch else {**keys, "micro_batch": str(size)}
            if (way := self._fits(found, changed)) is not None and way.keys:
                return way
            size //= 2
        return None

    def _groups(self, keys: Mapping[str, str], found: Sizes) -> Way | None:
        """Return the way of the most groups that fit with passes of one, if fewer groups help at all."""
        least = "2" if self.config.algorithm.needs.pairs else "1"
        groups = self.config.prompts_per_step // 2
        while groups >= self.work.processes:
            changed = {**keys, "micro_batch": least, "prompts_per_step": str(groups)}
            if (way := self._fits(found, changed)) is not None:
                return None if self._fits(found, {**keys, "micro_batch": least}) is not None else way
            groups //= 2
        return None

    def _smaller(self, keys: Mapping[str, str], found: Sizes | None) -> Iterator[Way]:
        """Yield the way of pictures of half the height and width."""
        if found is None:
            return
        halved = {"model.settings.resolution": str(found.shape[-2] // 2)}
        if found.shape[-1] != found.shape[-2]:
            halved["model.settings.width"] = str(found.shape[-1] // 2)
        for changed in ({**halved}, {**keys, **halved}):
            smaller = self._known(*changed.items())
            if smaller is not None and (way := self._passes(changed, smaller)) is not None:
                yield way
            if changed == {**halved} and not keys:
                return

    def _fits(self, found: Sizes, keys: Mapping[str, str]) -> Way | None:
        """Return the way of these keys if they fit; if only decoding does not, with fewer samples at once, or tiles."""
        if (way := self._decoded(found, keys)) is not None or self.config.model.vae_tiling:
            return way
        if self._decoded(replace(found, decoding=NOTHING), keys) is None:  # it is not decoding that does not fit
            return None
        tiles = self._tiles(keys)
        return None if tiles is None else self._decoded(replace(found, decoding=tiles), {**keys, **TILED})

    def _tiles(self, keys: Mapping[str, str]) -> Cost | None:
        """Return what decoding in tiles takes, which depends on nothing but the size of a sample; None: no way."""
        size = {key: value for key, value in keys.items() if key.startswith(SIZE)}
        found = self._known(*size.items(), *TILED.items())
        return None if found is None else found.decoding

    def _decoded(self, found: Sizes, keys: Mapping[str, str]) -> Way | None:
        """Return the way of these keys if they fit, with fewer samples decoded at once if that is what does not."""
        changed, (top, work) = dict(keys), self._peak(found, keys)
        few = self.place.decoded_at_once(found, work)
        while top.peak > self.room and top.name == "decode" and few > 1:
            few //= 2
            changed[FEW] = str(few)
            top, _ = self._peak(found, changed)
        return Way(changed, top.peak, top.name, price(changed)) if top.peak <= self.room else None

    def _peak(self, found: Sizes, keys: Mapping[str, Any]) -> tuple[Phase, Workload]:
        work = workload(override(self.config, keys), self.work.processes, self.work.group, self.work.machines)
        return peak(phases(found, work, self.place)), work
