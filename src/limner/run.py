"""A run from end to end: check, train, evaluate before and after, export, report; and a finished run reopened."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor

from limner.build import Assembly, assemble, model_source
from limner.core.errors import RunError, UserError
from limner.core.media import Media
from limner.core.protocols import DecisionProcess, Policy
from limner.core.rng import Rng
from limner.core.tree import tree_map
from limner.core.types import Prompt
from limner.engine import checkpoint
from limner.engine.memory import peak_memory_mib
from limner.evaluate.protocol import OVERALL, Draw, Evaluation, Keep, compare, evaluate
from limner.evaluate.selection import galleries
from limner.evaluate.store import keeper
from limner.evaluate.store import load as load_evaluation
from limner.evaluate.store import save as save_evaluation
from limner.evaluate.tables import diversity_row, tables
from limner.recipes.source import recipe
from limner.recipes.yaml import from_yaml, is_of, to_yaml
from limner.registry.names import BASES
from limner.report.card import Card, write_card
from limner.report.curve import charts, meanings
from limner.report.data import Report, Spent
from limner.report.file import write_text
from limner.report.html import write_report
from limner.report.manifest import hash_weights, manifest, write_manifest
from limner.report.metrics import Metrics, read
from limner.report.progress import Progress
from limner.training.config import OWN, Lora, RunConfig
from limner.training.loop import Hooks, Parts
from limner.training.loop import train as train_loop
from limner.training.preflight import Preflight, preflight
from limner.training.state import State

Moment = Literal["before", "after"]


@dataclass
class Run:
    """A run folder, the model in it, how far it has come, and what the dry run had to say."""

    folder: Path
    assembly: Assembly
    state: State
    progress: Progress | None = None
    notices: tuple[str, ...] = ()

    @property
    def config(self) -> RunConfig:
        """The configuration of the run."""
        return self.assembly.config

    @property
    def leads(self) -> bool:
        """Whether this process writes the folder: of several that share a run, one does."""
        return self.assembly.parts.team.leads

    def sample(
        self, prompt: str, count: int = 4, seed: int = 0, steps: int | None = None, guidance: float | None = None
    ) -> Media:
        """Draw `count` samples of a prompt from the trained weights, by the run's own sampler, as files hold them.

        `steps` or `guidance` ask for the plain ODE instead.
        """
        own = steps is None and guidance is None
        policy = self.assembly.policy("policy", None if own else self.config.sampler.plain(steps, guidance))
        with self.averaged():
            return drawer(self.assembly.parts, policy)([Prompt(prompt)] * count, range(seed, seed + count)).rounded()

    @property
    def suffix(self) -> str:
        """How the file of a sample ends."""
        model, latent = self.assembly.model, self.assembly.model.latent()
        with torch.no_grad():
            return model.decode(torch.zeros(1, *latent.shape, device=latent.device)).suffix

    def measure(self, moment: Moment) -> dict[str, Evaluation]:
        """Evaluate on the held-out prompts, by each sampler that is to be measured at this moment."""
        settings = self.config.evaluation
        if not self.assembly.heldout:
            return {}
        role: Literal["reference", "policy"] = "reference" if moment == "before" else "policy"
        chosen = [each for each in settings.measured(self.config.sampler) if each.when in (moment, "both")]
        policies = {each.name: self.assembly.policy(role, each.sampler) for each in chosen}
        results = {}
        with self.averaged() if moment == "after" else nullcontext():
            for i, (name, policy) in enumerate(policies.items()):
                place = self.folder / "samples" / f"{moment}-{name}"
                results[name] = (load_evaluation(place) if moment == "before" else None) or self._evaluate(
                    policy, self.assembly.heldout, range(settings.seeds), (i, len(policies)), keeper(place)
                )
                if self.leads:
                    save_evaluation(place, results[name])
        return results

    def curve(self, state: State) -> dict[str, float]:
        """Return held-out reward by category on a part of the prompts, one seed each."""
        prompts = self.assembly.heldout
        stride = max(1, len(prompts) // self.config.evaluation.part)
        with self.averaged():
            result = self._evaluate(self._trained_policy(), prompts[::stride], range(1), (0, 1))
        return {f"heldout/{name}": interval.value for name, interval in result.summary().items()}

    def checkpoint(self, state: State) -> None:
        """Keep everything that another session needs to go on exactly here."""
        parts = self.assembly.parts
        kept: dict[str, Any] = {
            "state": state.to_dict(),
            "weights": parts.weights.state(),
            "stepper": parts.stepper.state(),
            "ema": parts.ema.state() if parts.ema is not None else {},
        }
        checkpoint.save(self.folder / "checkpoints", state.iteration, kept)

    def restore(self) -> bool:
        """Put back the last whole checkpoint, if there is one."""
        path = checkpoint.latest(self.folder / "checkpoints")
        if path is None:
            return False
        kept, parts = checkpoint.load(path), self.assembly.parts
        parts.weights.load_state(kept["weights"])
        parts.stepper.load_state(kept["stepper"])
        if parts.ema is not None:
            parts.ema.load_state(kept["ema"])
        self.state = State.from_dict(kept["state"])
        return True

    def export(self, folder: Path | str | None = None) -> Path:
        """Write the result as plain diffusers loads it, with a model card; return the folder."""
        target = self.folder / "export" if folder is None else Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        with self.averaged():
            if isinstance(self.config.model.train, Lora):
                self.assembly.model.export_lora(target)
            else:
                self.assembly.model.export_full(target)
        write_card(target, self._card())
        return target

    def report(self, started: float | None = None) -> Path:
        """Write report.html from what is in the folder, and summary.json if it is missing or the run has just ended."""
        names = [each.name for each in self.config.evaluation.measured(self.config.sampler)]
        before, after = self._stored("before", names), self._stored("after", names)
        first, last = before.get(OWN), after.get(OWN)
        lines = read(self.folder)
        main, categories = tables(before, after)
        if started is not None or not (self.folder / "summary.json").exists():
            total = sum(self.state.seconds.values()) if started is None else time.monotonic() - started
            self._write_summary(first, last, total)
        summary = json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))
        clip, policy = self.config.algorithm.needs.clip, self.assembly.parts.actors.policy
        band = clip.per_element(policy.elements()) if clip and isinstance(policy, DecisionProcess) else ()
        report = Report(
            title=f"{self.config.name}, seed {self.config.seed}",
            summary=f"{type(self.config.algorithm).__name__}, {self.state.iteration} iterations of "
            f"{self.config.prompts_per_step} prompts × {self.config.group_size} samples.",
            rows=main,
            categories=categories,
            diversity=diversity_row(first, last),
            galleries=galleries(first, last) if first is not None and last is not None else (),
            charts=charts(lines, band, rate=first is not None and first.kind == "rate"),
            spent=Spent(
                _phases(summary["seconds"]), {"training": summary["network_evaluations"]}, summary["peak_memory_mib"]
            ),
            config=to_yaml(self.config),
            manifest=json.loads((self.folder / "manifest.json").read_text(encoding="utf-8")),
            meanings=meanings(lines),
            notices=summary["notices"],
        )
        write_report(self.folder / "report.html", report)
        return self.folder / "report.html"

    def _write_summary(self, before: Evaluation | None, after: Evaluation | None, total: float) -> None:
        unjudged = [f"{self.state.invalid} samples could not be judged."] if self.state.invalid else []
        summary: dict[str, Any] = {
            "recipe": self.config.name,
            "seed": self.config.seed,
            "iterations": self.state.iteration,
            "seconds": {**self.state.seconds, "total": total},
            "processor_seconds": self.state.processor_seconds,
            "network_evaluations": self.state.evaluations,
            "peak_memory_mib": peak_memory_mib(self.assembly.parts.team.device),
            "invalid": self.state.invalid,
            "notices": [*self.notices, *unjudged],
        }
        if before is not None and after is not None and OVERALL in compare(before, after):
            summary["heldout"] = {
                "before": before.summary()[OVERALL].to_dict(),
                "after": after.summary()[OVERALL].to_dict(),
                "change": compare(before, after)[OVERALL].to_dict(),
            }
            if self.config.evaluation.seeds > 1:
                summary["diversity"] = {
                    "before": before.diversity().value,
                    "after": after.diversity().value,
                }
        write_text(self.folder / "summary.json", json.dumps(summary, indent=2) + "\n")

    def _stored(self, moment: Moment, names: Sequence[str]) -> dict[str, Evaluation]:
        """Return what was measured at this moment by the samplers of these names, if it was."""
        found = {name: load_evaluation(self.folder / "samples" / f"{moment}-{name}") for name in names}
        return {name: evaluation for name, evaluation in found.items() if evaluation is not None}

    def _trained_policy(self) -> Policy:
        return self.assembly.parts.actors.policy

    def averaged(self) -> Any:
        """Return a context in which the trained weights are their average, if the run keeps one."""
        ema = self.assembly.parts.ema
        return nullcontext() if ema is None else ema.swapped()

    def _evaluate(
        self,
        policy: Policy,
        prompts: Sequence[Prompt],
        seeds: Sequence[int],
        part: tuple[int, int],
        keep: Keep | None = None,
    ) -> Evaluation:
        def tick(share: float) -> None:
            if self.progress is not None:
                self.progress.phase("evaluate", (part[0] + share) / part[1])

        judge, batch, team = self.assembly.judge, self.config.micro_batch, self.assembly.parts.team
        draw = drawer(self.assembly.parts, policy)
        return evaluate(draw, prompts, judge, seeds, batch=batch, tick=tick, keep=keep, team=team)

    def _card(self) -> Card:
        c = self.config
        lora = c.model.train if isinstance(c.model.train, Lora) else None
        length = c.model.max_sequence_length
        texts = {} if length is None else {"max_sequence_length": length}
        return Card(
            name=self.folder.name,
            base=c.model.path,
            licence="apache-2.0" if c.model.path in BASES else "that of the base",
            pipeline=self.assembly.model.pipeline_name,
            sampler=c.sampler.described(),
            reward=c.reward + ("" if c.aggregation == "sum" else f", compared by {c.aggregation}"),
            algorithm=str(c.algorithm),
            rank=None if lora is None else lora.rank,
            alpha=None if lora is None else float(lora.alpha),
            load=dict.fromkeys(self.assembly.model.left_out),
            call={**c.sampler.call(), **texts},
            rows=tables(self._stored("before", [OWN]), self._stored("after", [OWN]))[0],
            example=self.assembly.parts.studio.prompts[0].text,
            bundled=BASES.get(c.model.path, ""),
        )


def drawer(parts: Parts, policy: Policy) -> Draw:
    """Return a function that draws sample i for prompt i at seed i; its noise depends on text and seed alone."""

    def draw(prompts: Sequence[Prompt], seeds: Sequence[int]) -> Media:
        unique = list(dict.fromkeys(p.asked for p in prompts))
        index = torch.tensor([unique.index(p.asked) for p in prompts])
        ids = torch.tensor([Rng((p.text, s)).seed() for p, s in zip(prompts, seeds, strict=True)])
        condition = parts.studio.cache.condition(unique)
        with torch.no_grad():
            drawn = policy.sample(condition, index, ids, ids, rng=Rng(("evaluate",)), record=False)
            return tree_map(Tensor.cpu, parts.studio.decode(drawn.sample))

    return draw


def check(config: RunConfig) -> Preflight:
    """Do the dry run: nothing is written, no weight moves."""
    assembly = assemble(config)
    return preflight(config, assembly.parts)


def train(config: RunConfig | str, resume: bool = False, quiet: bool = False) -> Run:
    """Carry out a run: check, evaluate, train, evaluate, export, report. A name stands for its recipe.

    With `resume` a run that was interrupted goes on from its last checkpoint, bit by bit as if it had not been.
    Raises UserError before anything is written if the run could not work.
    """
    started = time.monotonic()
    config = recipe(config) if isinstance(config, str) else config
    folder = Path(config.out or f"runs/{config.name}-{config.seed}").expanduser()
    _require_free(folder, config, resume)
    assembly = assemble(config)
    found = preflight(config, assembly.parts)
    team = assembly.parts.team
    progress = Progress(config.name, config.steps, quiet=quiet, stream=None if team.leads else io.StringIO())
    for notice in found.notices:
        progress.say(f"note: {notice}")
    run = Run(folder, assembly, State(), progress, found.notices)
    if resume and run.restore():
        progress.say(f"resuming at iteration {run.state.iteration}")
        started -= sum(run.state.seconds.values())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}); choose another with --out") from error
    metrics = Metrics(folder)
    with _closing(progress, metrics):
        if team.leads:
            write_text(folder / "config.yaml", to_yaml(config))
            _write_manifest(run)
            metrics.truncate(run.state.iteration)
        progress.done = run.state.iteration
        run.measure("before")
        train_loop(config, assembly.parts, run.state, Hooks(progress, metrics, run.checkpoint, run.curve))
        run.measure("after")
        if team.leads:
            run.report(started)
            run.export()
        team.wait()
    return run


@contextmanager
def _closing(progress: Progress, metrics: Metrics) -> Iterator[None]:
    """Leave the terminal and the files in order, however it ends; a full disk stops a run, and is no bug."""
    try:
        try:
            yield
        finally:
            progress.close()
            metrics.close()
    except (OSError, SafetensorError) as error:
        if not _no_room(error):
            raise
        raise RunError(f"{error}; the last checkpoint stands: make room, and go on with --resume") from error


def _no_room(error: OSError | SafetensorError) -> bool:
    """Tell whether a disk is full; safetensors says so in its message only."""
    full = (errno.ENOSPC, errno.EDQUOT)
    return error.errno in full if isinstance(error, OSError) else any(f"os error {code}" in str(error) for code in full)


def open_run(folder: str | Path, trust: bool = False) -> Run:
    """Return a run from its folder, at its last checkpoint. Raises UserError if there is none.

    Its rewards and prompts need not be there any more. Where its configuration names code that is not limner's, as a
    run by your own algorithm does, it is imported only if you `trust` it; else UntrustedCode is raised.
    """
    folder = Path(folder).expanduser()
    written = folder / "config.yaml"
    if not written.is_file():
        raise UserError(f"{folder} is no run folder: it has no config.yaml")
    config = from_yaml(written.read_text(encoding="utf-8"), str(written), None if trust else ())
    run = Run(folder, assemble(config, training=False), State())
    if not run.restore():
        raise UserError(f"{folder} has no checkpoint yet; go on with: limner train {written} --resume")
    return run


def _require_free(folder: Path, config: RunConfig, resume: bool) -> None:
    """Refuse to write over another run, or to resume one under another configuration."""
    written = folder / "config.yaml"
    if not written.exists():
        unfinished = f".{written.name}.part"  # all that a run leaves that was killed at its very start
        if folder.exists() and (not folder.is_dir() or {entry.name for entry in os.scandir(folder)} - {unfinished}):
            raise UserError(f"{folder} exists and is no run folder; choose another with --out")
        return
    if not resume:
        raise UserError(f"{folder} holds a run already: continue it with --resume, or choose another folder with --out")
    if not is_of(config, written.read_text(encoding="utf-8"), str(written)):
        raise UserError(
            f"{folder} holds a run of another configuration; resume it with: limner train {written} --resume"
        )


def _write_manifest(run: Run) -> None:
    config = run.config
    source = Path(model_source(config.model)).expanduser()
    content = manifest(
        config=to_yaml(config),
        seeds={"train": config.seed, "evaluation": list(range(config.evaluation.seeds))},
        weights=hash_weights(source) if source.exists() else {},
        device=str(run.assembly.parts.team.device),
        command=sys.argv,
    )
    write_manifest(run.folder, content)


def _phases(seconds: Mapping[str, float]) -> dict[str, float]:
    """Return the seconds of each phase, and of all that is none of them."""
    phases = {name: value for name, value in seconds.items() if name != "total"}
    rest = seconds.get("total", 0.0) - sum(phases.values())
    return phases | ({"evaluation and set-up": rest} if rest > 0 else {})
