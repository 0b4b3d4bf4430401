"""`limner plan`: what a run will take, before its first expensive second; no weight is read, and nothing is drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from limner.build import load_prompts
from limner.core.errors import UserError
from limner.engine.device import resolve
from limner.machine.cost import Sizes, sizes
from limner.machine.known import remembering
from limner.machine.libraries import libraries
from limner.machine.memory import Phase, Place, peak, phases, share
from limner.machine.rate import HOUR, Rate, Seconds, rate
from limner.machine.ways import Way, ways
from limner.models.folder import is_local
from limner.policies.denoising import Sampler
from limner.registry.published import CARDS
from limner.registry.served import source_of
from limner.report.text import count
from limner.training.config import RunConfig
from limner.training.preflight import Preflight
from limner.training.source import Preferences
from limner.training.spread import called, members
from limner.training.workload import Workload, guided, measured, workload

GIB = 2**30
RESERVED = GIB
"""Of a card, for the driver's context and what an allocator cannot use: assumed, not measured."""
DECODING = ("decode", "evaluation decode", "snapshots decode")
"""Phases of an autoencoder alone."""
ONCE = ("evaluation", "snapshots")
"""What phases of the whole run, and not of an iteration, begin with."""
UNITS = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"))


@dataclass(frozen=True)
class Plan:
    """What a run will take."""

    config: RunConfig
    work: Workload
    sizes: Sizes
    place: Place
    phases: Sequence[Phase]
    evaluations: Mapping[str, float]
    """Of the network, by phase, of all processes: rollout and update of an iteration; of the run what is `ONCE`."""
    flops: Mapping[str, float]
    """Operations, in the same way; of decoding too, which is in float32."""
    card: int | None
    ways: Sequence[Way]
    """How to make it fit the card, where it does not."""
    measured: Preflight | None
    rate: Rate
    price: float | None
    """Of an hour of a device."""

    @property
    def seconds(self) -> Seconds:
        """What the operations take at the assumed rate, on as many devices as there are."""
        work, crew, rate = self.work, self.config.context, self.rate
        share = work.own_groups / work.groups / crew
        taken = {
            phase: flops / (rate.decoder if phase in DECODING else rate.networks) * share
            for phase, flops in self.flops.items()
        }
        shown = (taken["snapshots"] + taken["snapshots decode"]) / share / (work.processes * crew)  # each draws all
        return Seconds(
            taken["rollout"], taken["decode"], taken["update"], taken["evaluation"] + taken["evaluation decode"],
            shown, self.config.steps, work.processes * crew,
        )  # fmt: skip

    @property
    def timed(self) -> bool:
        """Whether there is a rate: of a machine's CPU none is assumed."""
        return self.place.accelerator or self.rate.given

    @property
    def peak(self) -> Phase:
        """The phase that takes most memory."""
        return peak(tuple(self.phases))

    def total(self, numbers: Mapping[str, float]) -> float:
        """Return a number of the whole run, of those by phase."""
        once = sum(number for phase, number in numbers.items() if phase.startswith(ONCE))
        each = sum(number for phase, number in numbers.items() if not phase.startswith(ONCE))
        return self.config.steps * each + once


@remembering()
def plan(
    config: RunConfig,
    card: int | None = None,
    processes: int = 1,
    measure: bool = False,
    machines: int = 1,
    tflops: float | None = None,
    price: float | None = None,
) -> Plan:
    """Return the plan of a run by `processes` processes, on accelerators of `card` GB if that is given.

    Time is told by the rate of such a card, or by that given in `tflops`, and cost by the `price` of a device's hour.
    They are on as many `machines`, equally many on each. Raises UserError for what cannot be planned, and, with
    `measure`, for what could not run here as configured.
    """
    if processes % machines:
        raise UserError(
            f"plan: {processes} processes on {machines} machines are not equally many on each: let --processes, which "
            "counts those of all machines, be a multiple of --machines"
        )
    count = members(config, processes)
    if count > config.prompts_per_step:
        raise UserError(
            f"plan: {called(config, count)} share whole groups, but an iteration has {config.prompts_per_step}: lower "
            "--processes, or raise --prompts_per_step"
        )
    found, place = sizes(config), place_of(config, card)
    work = workload(config, count, 2 if isinstance(config.source, Preferences) else 1, machines)
    evaluations = _evaluations(config, found, work)
    taken = phases(found, work, place)
    fitting = ways(config, work, place, room(card)) if card is not None and peak(taken).peak > room(card) else ()
    return Plan(
        config, work, found, place, taken, evaluations, _flops(config, found, work, evaluations), card, fitting,
        _measured(config) if measure else None, rate(card, config.precision.dtype, tflops), price,
    )  # fmt: skip


def place_of(config: RunConfig, card: int | None) -> Place:
    """Return where a run will be: on an accelerator, unless its model is here and nothing but a CPU is."""
    if card is not None or not is_local(source_of(config.model.path)) or resolve(config.device).type == "cuda":
        return Place(accelerator=True)
    return Place(accelerator=False, imported=libraries(config.reward))


def room(card: int) -> float:
    """Return the bytes that a run may take of a card."""
    return float(card * GIB - RESERVED)


def _measured(config: RunConfig) -> Preflight:
    from limner import run

    return run.check(config)


def _heldout(config: RunConfig) -> int:
    return len(load_prompts(config.evaluation.prompts)) if config.evaluation.prompts else 0


def _drawn(config: RunConfig) -> Sequence[tuple[int, Sampler]]:
    """Return how many samples are drawn to evaluate in the whole run, by which sampler."""
    every = measured(config, _heldout(config))
    return [(each.samples, each.by.sampler) for each in every if isinstance(each.by.sampler, Sampler)]


def _evaluated(config: RunConfig) -> int:
    return sum(samples for samples, _ in _drawn(config))


def _shown(config: RunConfig, work: Workload) -> int:
    """Return how many samples all processes draw for snapshots in the whole run: each process draws them all."""
    how = config.snapshots
    return work.processes * how.sheets(config.steps) * how.cells(_heldout(config) or how.prompts)


def _evaluations(config: RunConfig, sizes: Sizes, work: Workload) -> dict[str, float]:
    evaluation = sum(samples * sampler.steps * guided(sampler) for samples, sampler in _drawn(config))
    anchor = work.updates * config.anchor.batch if config.anchor.weight else 0
    plain = cast(Sampler, config.sampler).plain()
    return {
        "rollout": work.groups * work.states * sizes.sampling.evaluations,
        "update": work.groups * work.taught * sizes.learning.evaluations + anchor,
        "evaluation": float(evaluation),
        "snapshots": float(_shown(config, work) * plain.steps * guided(plain)),
    }


def _flops(config: RunConfig, sizes: Sizes, work: Workload, evaluations: Mapping[str, float]) -> dict[str, float]:
    """Return operations of all processes by phase; what is drawn is decoded, also to evaluate."""
    crew = config.context
    one = crew * sizes.sampling.flops / sizes.sampling.evaluations
    drawn = work.samples if config.source.draws else 0
    return {
        "rollout": evaluations["rollout"] * one,
        "decode": crew * drawn * sizes.decoding.flops,
        "update": crew * work.groups * work.taught * sizes.learning.flops,
        "evaluation": evaluations["evaluation"] * one,
        "evaluation decode": crew * _evaluated(config) * sizes.decoding.flops,
        "snapshots": evaluations["snapshots"] * one,
        "snapshots decode": crew * _shown(config, work) * sizes.decoding.flops,
    }


def text(plan: Plan) -> str:
    """Return a plan for a person."""
    taken = [*_arithmetic(plan), *_spread(plan), *_work(plan), *_time(plan)]
    return "\n".join([*taken, "", *table(plan.phases), "", *_fit(plan), *_timed(plan)])


def _arithmetic(plan: Plan) -> Iterator[str]:
    config, work, found = plan.config, plan.work, plan.sizes
    seen = " x ".join(map(str, found.shape))
    yield f"recipe       {config.name}"
    yield f"model        {found.source}"
    yield (
        f"sample       latent {' x '.join(map(str, found.latent))}, {seen} shown; attention over {found.tokens:,} "
        "tokens at most"
    )
    yield f"iteration    {work.groups} groups x {work.group} samples = {work.samples:,} samples"
    if work.processes > 1:
        yield f"processes    {work.processes}: {work.own_groups} groups, {work.share:,} samples each at most"
    if config.context > 1:
        yield f"context      {config.context} processes for each of these: bytes are of one of them, operations of all"
    if work.steps:
        yield (
            f"rollout      {work.rollout_passes:,} micro-batches of {work.micro_batch}, {work.steps} steps each; "
            f"{work.recorded} decisions of a sample are kept"
        )
    yield (
        f"update       {work.updates} optimizer steps; {work.own_groups} x {work.taught:,} / {work.updates} = "
        f"{work.own_groups * work.taught / work.updates:,.0f} decisions or noised samples in each, "
        f"{work.update_passes:,} passes of {work.micro_batch} added up"
    )


def _spread(plan: Plan) -> Iterator[str]:
    """Say what a process has of weights that are spread, and what a pass brings together."""
    parts, found = plan.work.parts, plan.sizes
    if parts == 1:
        return
    every, own = share(found, 1), share(found, parts)
    weights, mine = (each.networks + each.lora for each in (every, own))
    yield (
        f"shard {plan.config.shard:<6} {_size(weights)} of weights in {parts} parts, each tensor's rows rounded up: "
        f"{_size(mine)} each; of {every.trained:,} that learn {own.trained:,}"
    )
    yield (
        f"             a pass brings together {_size(own.forward)} (around the blocks R, the largest of them B: "
        f"R + 2 B + max(R, B)), in learning {_size(own.backward)}"
    )


def _size(number: float) -> str:
    return f"{number / GIB:,.2f} GiB" if number >= GIB else f"{number / 2**20:,.1f} MiB"


def _work(plan: Plan) -> Iterator[str]:
    found, work, used = plan.sizes, plan.work, plan.evaluations
    yield (
        f"evaluations  rollout {work.groups} x {work.states:,.0f} latents x {found.sampling.evaluations:.0f} = "
        f"{used['rollout']:,.0f}; update {work.groups} x {work.taught:,} x {found.learning.evaluations:.0f} = "
        f"{used['update']:,.0f} at most"
    )
    yield (
        f"             run {plan.config.steps:,} iterations, and {used['evaluation']:,.0f} to evaluate"
        + (f", {used['snapshots']:,.0f} for snapshots" if used["snapshots"] else "")
        + f": {count(round(plan.total(used)))} network evaluations"
    )
    one = plan.config.context * found.sampling.flops / found.sampling.evaluations
    total, flops = plan.total(plan.flops), plan.flops
    yield (
        f"operations   {_operations(one)} an evaluation; an iteration {_operations(flops['rollout'])} to draw, "
        f"{_operations(flops['decode'])} to decode, {_operations(flops['update'])} to learn; the run "
        f"{_operations(total)}"
    )


def _time(plan: Plan) -> Iterator[str]:
    """Say how long it takes and what it costs at the assumed rate."""
    found = plan.seconds
    if not plan.timed:
        yield "seconds      of a CPU nothing is assumed: give what it sustains with --tflops, or measure with --measure"
        return
    each = {"rollout": found.rollout, "decode": found.decode, "update": found.update}
    phases = ", ".join(f"{name} {seconds:,.3g}" for name, seconds in each.items())
    shown = f", all snapshots {found.snapshots:,.3g}" if found.snapshots else ""
    yield f"seconds      an iteration {found.iteration:,.3g}: {phases}; all evaluations {found.evaluation:,.3g}{shown}"
    many = f" on each of {found.devices} devices" if found.devices > 1 else ""
    cost = "" if plan.price is None else f", and costs {found.cost(plan.price):,.2f} at {plan.price:g} an hour of each"
    yield f"             the run {found.run / HOUR:,.3g} hours{many}{cost}"
    yield f"             at {plan.rate.said}; judges, and what crosses over, are not counted"


def _operations(flops: float) -> str:
    """Return a number of operations with the unit that suits it."""
    unit, name = next((unit, name) for unit, name in UNITS if flops >= unit or unit == UNITS[-1][0])
    return f"{flops / unit:,.3g} {name}FLOP"


def table(phases: Sequence[Phase]) -> list[str]:
    """Return bytes by kind and phase, in GiB, or MiB where all are small."""
    unit, name = (GIB, "GiB") if peak(tuple(phases)).peak >= 4 * GIB else (GIB / 2**10, "MiB")
    kinds = list(dict.fromkeys(kind for phase in phases for kind in phase.bytes))
    rows = [f"{name:<13}" + "".join(f"{phase.name:>10}" for phase in phases)]
    for kind in kinds:
        rows.append(f"{kind:<13}" + "".join(f"{phase.bytes.get(kind, 0) / unit:>10,.2f}" for phase in phases))
    return [*rows, f"{'peak':<13}" + "".join(f"{phase.peak / unit:>10,.2f}" for phase in phases)]


def _fit(plan: Plan) -> Iterator[str]:
    top, cards = plan.peak, plan.place.accelerator
    here = "in this machine's memory, predicted; holes in its heap come on top"
    where = "on an accelerator, predicted" if cards else here
    yield f"peak         {top.peak / GIB:,.2f} GiB in {top.name} ({where})"
    if cards:
        verdicts = [f"{card} GB {'yes' if top.peak <= room(card) else 'no'}" for card in CARDS]
        yield f"fits         {', '.join(verdicts)} (1 GiB of each left for context and allocator)"
    if plan.card is None or top.peak <= room(plan.card):
        return
    yield (
        f"to fit       a card of {plan.card} GB, cheapest first:"
        if plan.ways
        else (f"to fit       no setting makes it fit a card of {plan.card} GB")
    )
    for way in plan.ways:
        yield f"  {way.flags:<60} {way.peak / GIB:6.2f} GiB in {way.phase}; {way.price}"


def _timed(plan: Plan) -> Iterator[str]:
    found = plan.measured
    if found is None:
        return
    yield f"measured     {found.estimate()}"


def as_json(plan: Plan) -> dict[str, Any]:
    """Return a plan as plain data."""
    found = plan.measured
    return {
        "recipe": plan.config.name,
        "work": asdict(plan.work) | {
            "samples": plan.work.samples,
            "share": plan.work.share,
            "rollout_passes": plan.work.rollout_passes,
            "update_passes": plan.work.update_passes,
        },
        "sizes": asdict(replace(plan.sizes, held=())),
        "share": asdict(share(plan.sizes, plan.work.parts)),
        "accelerator": plan.place.accelerator,
        "phases": {phase.name: {**phase.bytes, "peak": phase.peak} for phase in plan.phases},
        "peak": plan.peak.peak,
        "phase": plan.peak.name,
        "evaluations": {**plan.evaluations, "run": plan.total(plan.evaluations)},
        "flops": {**plan.flops, "run": plan.total(plan.flops)},
        "rate": asdict(plan.rate) if plan.timed else None,
        "seconds": asdict(plan.seconds) | {"iteration": plan.seconds.iteration, "run": plan.seconds.run}
        if plan.timed else None,
        "cost": plan.seconds.cost(plan.price) if plan.timed and plan.price is not None else None,
        "fits": {str(card): plan.peak.peak <= room(card) for card in CARDS} if plan.place.accelerator else {},
        "ways": [asdict(way) for way in plan.ways],
        "measured": None if found is None else {"seconds": found.seconds, "peak": found.memory.peak * 2**20},
    }  # fmt: skip
