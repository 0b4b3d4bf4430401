"""What a run folder says of its run: summary.json, report.html, manifest.json, and the card of what it exports.

All of it is made from what stands in the folder, so it can be made again from there.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from PIL import Image
from torch import nn

from limner.build import Assembly, drawer, settings_of
from limner.claim import inputs
from limner.core.errors import UserError
from limner.core.paths import weighed
from limner.core.protocols import DecisionProcess
from limner.engine.memory import peak_memory_mib
from limner.evaluate.protocol import OVERALL, Evaluation, compare
from limner.evaluate.selection import galleries
from limner.evaluate.store import load
from limner.evaluate.tables import diversity_row, tables
from limner.models.given import Taking
from limner.policies.guided import Guiding
from limner.recipes.yaml import to_yaml
from limner.registry.names import BASES
from limner.registry.served import source_of
from limner.report.card import BY_PIPELINE, PLACE, Card, OwnLora, OwnUse, Telling
from limner.report.curve import charts, headline, meanings
from limner.report.data import Report, Spent
from limner.report.file import read_object, write_text
from limner.report.gallery import grid
from limner.report.glance import glance
from limner.report.html import write_report
from limner.report.manifest import hash_weights, manifest
from limner.report.metrics import Metrics, read
from limner.report.text import number, verdict
from limner.training.config import OWN, RunConfig
from limner.training.footprint import Footprint
from limner.training.snapshots import keep, sheet
from limner.training.state import State

Moment: TypeAlias = Literal["before", "after"]


SHOWN = 16
"""Held-out pictures that TensorBoard and W&B are shown."""
PAIRS = 4
"""Pairs of pictures on the card of a run."""


class Finished(Protocol):
    """A run, as far as its results are concerned."""

    folder: Path
    assembly: Assembly
    state: State
    notices: tuple[str, ...]
    foretold: Footprint | None

    @property
    def config(self) -> RunConfig:
        """The configuration of the run."""
        ...


class Drawing(Finished, Protocol):
    """A run that draws."""

    @property
    def leads(self) -> bool:
        """Whether this process writes the folder."""
        ...

    def averaged(self) -> AbstractContextManager[None]:
        """Have the trained weights be their average inside, if the run keeps one."""
        ...


def write_results(run: Finished, started: float | None = None) -> Path:
    """Write report.html from what is in the folder, and summary.json if it is missing or the run has just ended."""
    names = [each.name for each in run.config.evaluation.measured(run.config.sampler)]
    before, after = stored(run.folder, "before", names), stored(run.folder, "after", names)
    first, last = before.get(OWN), after.get(OWN)
    lines = read(run.folder)
    main, categories = tables(before, after)
    summary = None if started is not None else _summary(run.folder)
    if summary is None:
        total = sum(run.state.seconds.values()) if started is None else time.monotonic() - started
        summary = _write_summary(run, first, last, total)
    clip, policy = run.config.algorithm.needs.clip, run.assembly.parts.actors.policy
    band = clip.per_element(policy.elements()) if clip and isinstance(policy, DecisionProcess) else ()
    report = Report(
        title=f"{run.config.name}, seed {run.config.seed}",
        summary=f"{type(run.config.algorithm).__name__}, {run.state.iteration} iterations of "
        f"{run.config.prompts_per_step} prompts × {run.config.group_size} samples." + _told(guidance(run.config)),
        rows=main,
        categories=categories,
        diversity=diversity_row(first, last),
        galleries=galleries(first, last) if first is not None and last is not None else (),
        charts=charts(lines, band, rate=first is not None and first.kind == "rate"),
        spent=Spent(
            _phases(summary["seconds"]),
            {"training": summary["network_evaluations"]},
            summary["peak_memory_mib"],
            summary.get("foretold_memory_mib"),
        ),
        config=to_yaml(run.config),
        manifest=read_object(run.folder / "manifest.json") or {},
        meanings=meanings(lines),
        notices=summary["notices"],
    )
    write_report(run.folder / "report.html", report)
    return run.folder / "report.html"


def shown(run: Finished) -> str:
    """Return the card that a notebook shows of a run, finished or not."""
    first, last = (stored(run.folder, moment, [OWN]) for moment in ("before", "after"))
    rows, _ = tables(first, last)
    by_chance = galleries(first[OWN], last[OWN])[-1].pairs[:PAIRS] if rows else ()
    chart = headline(read(run.folder), rate=OWN in first and first[OWN].kind == "rate")
    page = run.folder / "report.html"
    said = f"{run.state.iteration} of {run.config.steps} iterations by {type(run.config.algorithm).__name__}"
    said += f"; report: {page}" if page.exists() else ""
    title = f"{run.config.name}, seed {run.config.seed}"
    return glance(title, said, rows[0] if rows else None, chart, by_chance)


def _summary(folder: Path) -> dict[str, Any] | None:
    """Return what summary.json says; None if it has to be written again, from what the folder holds."""
    try:
        found = read_object(folder / "summary.json") or {}
    except UserError:
        return None
    seconds, notices = found.get("seconds"), found.get("notices")
    if not isinstance(seconds, dict) or not isinstance(notices, list):
        return None
    numbers = [*seconds.values(), found.get("network_evaluations"), found.get("peak_memory_mib")]
    numbers += [] if found.get("foretold_memory_mib") is None else [found["foretold_memory_mib"]]
    whole = all(isinstance(each, (int, float)) and math.isfinite(each) for each in numbers)
    return found if whole and all(isinstance(notice, str) for notice in notices) else None


def _write_summary(run: Finished, before: Evaluation | None, after: Evaluation | None, total: float) -> dict[str, Any]:
    unjudged = [f"{run.state.invalid} samples could not be judged."] if run.state.invalid else []
    summary: dict[str, Any] = {
        "recipe": run.config.name,
        "seed": run.config.seed,
        "iterations": run.state.iteration,
        "seconds": {**run.state.seconds, "total": total},
        "processor_seconds": run.state.processor_seconds,
        "network_evaluations": run.state.evaluations,
        "peak_memory_mib": peak_memory_mib(run.assembly.parts.team.device),
        "foretold_memory_mib": None if run.foretold is None else run.foretold.peak,
        "invalid": run.state.invalid,
        "guidance": guidance(run.config),
        "notices": [*run.notices, *unjudged],
    }
    if before is not None and after is not None and OVERALL in compare(before, after):
        summary["heldout"] = {
            "before": before.summary()[OVERALL].to_dict(),
            "after": after.summary()[OVERALL].to_dict(),
            "change": compare(before, after)[OVERALL].to_dict(),
        }
        if run.config.evaluation.seeds > 1:
            summary["diversity"] = {
                "before": before.diversity().value,
                "after": after.diversity().value,
            }
    write_text(run.folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    return summary


def guidance(config: RunConfig) -> dict[str, Any]:
    """Return the scales of classifier-free guidance of rollouts, of updates, and of each sampler that measures.

    Empty where the run's sampler knows no guidance; what is not drawn, or not measured, has none.
    """
    own = config.sampler
    if not isinstance(own, Guiding):
        return {}
    measured = config.evaluation.measured(own) if config.evaluation.prompts else ()
    return {
        **({"rollout": own.guidance} if config.source.draws else {}),
        "update": own.guidance_of_updates,
        "evaluation": {each.name: each.sampler.guidance for each in measured if isinstance(each.sampler, Guiding)},
    }


def _told(scales: Mapping[str, Any]) -> str:
    """Return a sentence of what `guidance` returned: where results are measured otherwise than learned, it shows."""
    if not scales:
        return ""
    parts = [f"{name} {scale:g}" for name, scale in scales.items() if name != "evaluation"]
    parts += [f"evaluation by {name} {scale:g}" for name, scale in scales["evaluation"].items()]
    return f" Guidance: {', '.join(parts)}."


def stored(folder: Path, moment: Moment, names: Sequence[str]) -> dict[str, Evaluation]:
    """Return what was measured at this moment by the samplers of these names, if it was."""
    found = {name: load(folder / "samples" / f"{moment}-{name}") for name in names}
    return {name: evaluation for name, evaluation in found.items() if evaluation is not None}


def outcome(run: Finished) -> str:
    """Return what a run gained, in a sentence, and where its report is."""
    rows, _ = tables(stored(run.folder, "before", [OWN]), stored(run.folder, "after", [OWN]))
    said = verdict(rows[0] if rows else None)
    return f"{said} " * (said is not None) + f"Report: {run.folder / 'report.html'}"


def sheet_of(evaluation: Evaluation) -> Image.Image:
    """Return pictures of the first seed, spread over the prompts, each with its prompt and reward."""
    rows = range(0, len(evaluation.prompts), -(-len(evaluation.prompts) // SHOWN))
    labels = [f"{number(evaluation.reward[i, 0].item())}  {evaluation.prompts[i].text}" for i in rows]
    return grid(evaluation.stills[list(rows), 0], labels, columns=min(len(labels), 4))


def snapshots(run: Drawing, metrics: Metrics) -> Callable[[State], None]:
    """Return what takes snapshots as a run goes on; where it begins, take that of the base, if any are to be."""
    if run.config.snapshots.every and run.state.iteration == 0:
        _snapshot(run, metrics, run.state)
    return partial(_snapshot, run, metrics)


def snapshot(run: Drawing) -> Image.Image:
    """Return the sheet that `config.snapshots` asks for, of what the weights are now.

    Every process that shares a run draws it all: weights that are spread need them, and it is little.
    """
    assembly, config = run.assembly, run.config
    policy = assembly.policy("policy", config.sampler.plain())
    with run.averaged():
        prompts = assembly.heldout or assembly.parts.studio.prompts
        return sheet(config.snapshots, drawer(assembly.parts, policy), prompts, config.micro_batch)


def _snapshot(run: Drawing, metrics: Metrics, state: State) -> None:
    """Show what `config.snapshots` asks for to TensorBoard, W&B and whoever opens the folder."""
    taken = snapshot(run)
    if run.leads:
        metrics.show(max(0, state.iteration - 1), "samples", taken)
        keep(run.folder, state.iteration, taken)


def card(run: Finished, repo: str = "") -> Card:
    """Return the model card of what a run exports, to the Hub as `repo` or to a folder."""
    c = run.config
    model, settings = run.assembly.model, settings_of(c.model)
    before, after = (stored(run.folder, moment, [OWN]) for moment in ("before", "after"))
    edition = {"revision": c.model.revision, "variant": c.model.variant}
    asked = [*run.assembly.parts.studio.prompts, *(after[OWN].prompts if OWN in after else ())]
    return Card(
        name=run.folder.name,
        base=run.assembly.base,
        licence="apache-2.0" if c.model.path in BASES else "",
        pipeline=model.pipeline_name,
        sampler=c.sampler.described(),
        reward=c.reward,
        algorithm=str(c.algorithm),
        trained=c.model.train.described()
        + (f", begun from {c.model.start}" if c.model.start else "")
        + (f", on the base with {', '.join(c.model.loras)} fused" if c.model.loras else ""),
        whole=c.model.train.whole,
        load=dict.fromkeys(model.left_out) | {name: value for name, value in edition.items() if value},
        call=settings.call(c.sampler.call()),
        moves=any(found.files for found in after.values()),
        rows=tables(before, after)[0],
        example=next((prompt.text for prompt in asked if prompt.text), "your prompt"),  # an opened run has none
        networks=_of_diffusers(model.networks),
        bundled=BASES.get(c.model.path, ""),
        place=repo or PLACE,
        fused=tuple((place.name, weight) for place, weight in map(weighed, c.model.loras)),
        own=model if isinstance(model, OwnUse) else None,
        inputs=model.takes if isinstance(model, Taking) else (),
        told=settings.told(c.sampler.call()) if isinstance(settings, Telling) else (),
        lora=model.lora_use if isinstance(model, OwnLora) else BY_PIPELINE,
    )


def _of_diffusers(networks: Mapping[str, nn.Module]) -> dict[str, str]:
    """Return the names of diffusers' classes of networks, which may be in shards; empty if one is not diffusers'."""
    kinds = [
        [each.__name__ for each in type(network).__mro__ if each.__module__.startswith("diffusers.models.")]
        for network in networks.values()
    ]
    return {name: found[0] for name, found in zip(networks, kinds, strict=True)} if all(kinds) else {}


def provenance(run: Finished) -> dict[str, Any]:
    """Return what manifest.json is to hold: versions, hashes, seeds, hardware."""
    config, assembly = run.config, run.assembly
    source = Path(str(source_of(config.model.path))).expanduser()
    return manifest(
        config=to_yaml(config),
        seeds={"train": config.seed, "evaluation": list(range(config.evaluation.seeds))},
        weights=(hash_weights(source) if source.exists() else {}) | _of_updates(config),
        inputs=inputs(config, assembly.parts.studio.prompts, assembly.heldout),
        device=str(assembly.parts.team.device),
        command=sys.argv,
    )


def _of_updates(config: RunConfig) -> dict[str, str]:
    """Return the hashes of what the base's weights are not: the LoRAs it has, and what training began from."""
    places = [("lora", weighed(lora)[0]) for lora in config.model.loras]
    places += [("start", Path(config.model.start).expanduser())] if config.model.start else []
    found = [(what, hash_weights(place)) for what, place in places]
    return {f"{what} {name}": digest for what, each in found for name, digest in each.items()}


def _phases(seconds: Mapping[str, float]) -> dict[str, float]:
    """Return the seconds of each phase, and of all that is none of them."""
    phases = {name: value for name, value in seconds.items() if name != "total"}
    rest = seconds.get("total", 0.0) - sum(phases.values())
    return phases | ({"evaluation and set-up": rest} if rest > 0 else {})
