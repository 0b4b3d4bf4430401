"""A run from end to end: check, train, evaluate before and after, export, report; and a finished run reopened."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from limner.build import Assembly, assemble, drawer
from limner.claim import (
    folder_of,
    held,
    make,
    obstacles,
    require_unheld,
    require_usable,
    require_whole,
    resumed,
    settle,
)
from limner.core.errors import UserError
from limner.core.paths import path_of, to_folder
from limner.core.protocols import Policy
from limner.core.shortage import is_short, needing
from limner.core.team import ALONE, among_peers
from limner.core.tree import concatenate
from limner.core.types import Pipeline, Prompt
from limner.ending import closing, relieved
from limner.engine import checkpoint
from limner.engine.shards import made_whole
from limner.evaluate.protocol import Evaluation, Keep, evaluate
from limner.evaluate.store import keeper
from limner.evaluate.store import known as known_evaluation
from limner.evaluate.store import save as save_evaluation
from limner.loops import carry_out
from limner.models.given import require_inputs
from limner.objects import Objects, Prompts, RewardFunction, prompt_of, seeds_of
from limner.recipes.yaml import to_yaml, written_config
from limner.report.card import require_own, write_card
from limner.report.file import write_text
from limner.report.hub import push as upload
from limner.report.manifest import write_manifest
from limner.report.metrics import Metrics
from limner.report.progress import Progress
from limner.report.sheet import Samples
from limner.results import Moment, card, outcome, provenance, sheet_of, shown, snapshot, snapshots, write_results
from limner.training.config import RunConfig
from limner.training.footprint import Footprint
from limner.training.loop import Hooks
from limner.training.preflight import Preflight, Rehearsal, preflight
from limner.training.resume import everything, put_back
from limner.training.state import State
from limner.training.workload import Measured, curve_part, measured


@dataclass(repr=False)
class Run:
    """A run folder, the model in it, how far it has come, and what the dry run had to say.

    A notebook shows it as a card: what was gained, a curve, some pictures.
    """

    folder: Path
    assembly: Assembly
    state: State
    progress: Progress | None = None
    notices: tuple[str, ...] = ()
    foretold: Footprint | None = None
    """The memory that the dry run of this session foretold."""

    @property
    def config(self) -> RunConfig:
        """The configuration of the run."""
        return self.assembly.config

    @property
    def leads(self) -> bool:
        """Whether this process writes the folder: of several that share a run, one does."""
        return self.assembly.parts.team.leads

    def sample(
        self,
        prompt: str | Prompt,
        count: int = 4,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> Samples:
        """Draw `count` samples of a prompt from the trained weights, by the run's own sampler, as files hold them.

        `steps` or `guidance` ask for the plain ODE instead. A notebook shows them; `.pil()` are pictures of Pillow.
        """
        asked, seeds, size = [prompt_of(prompt)], seeds_of(count, seed), self.config.micro_batch
        require_inputs(self.assembly.model, asked)
        plain = None if steps is None and guidance is None else self.config.sampler.plain(steps, guidance)
        draw = drawer(self.assembly.parts, self.assembly.policy("policy", plain))
        parts = (seeds[i : i + size] for i in range(0, len(seeds), size))
        with self.averaged():
            drawn = [draw(asked * len(part), part).rounded() for part in parts]
        return Samples(concatenate(drawn), asked[0].text, seeds)

    @property
    def suffixes(self) -> Sequence[str]:
        """How the file of a sample may end."""
        model, latent = self.assembly.model, self.assembly.model.latent()
        with torch.no_grad():
            return model.decode(torch.zeros(1, *latent.shape, device=latent.device)).suffixes

    def preflight(self) -> Preflight:
        """Return what the dry run finds: it tries each sampler by which a result is measured, and draws a snapshot."""
        assembly = self.assembly
        return preflight(self.config, assembly.parts, assembly.heldout, self._rehearsals(), partial(snapshot, self))

    def _rehearsals(self) -> list[Rehearsal]:

        def rehearsal(drawn: Measured) -> Rehearsal:
            policy = self.assembly.policy("policy", drawn.by.sampler)

            def evaluate_some(some: Sequence[Prompt]) -> tuple[int, int]:
                found = self._evaluate(policy, some, range(1), (0, 1), alone=True)
                return int(found.valid.sum()), found.stills.nbytes

            return Rehearsal(evaluate_some, drawn.samples, drawn.kept)

        return [rehearsal(drawn) for drawn in measured(self.config, len(self.assembly.heldout))]

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
                known = known_evaluation(place, self.assembly.heldout, self.say) if moment == "before" else None
                results[name] = known or self._evaluate(
                    policy, self.assembly.heldout, range(settings.seeds), (i, len(policies)), keeper(place)
                )
                if self.leads and known is None:
                    save_evaluation(place, results[name])
        return results

    def say(self, notice: str) -> None:
        """Tell the person, and whoever reads the report."""
        self.notices = (*self.notices, notice)
        if self.progress is not None:
            self.progress.say(f"note: {notice}")

    def curve(self, state: State, metrics: Metrics) -> dict[str, float]:
        """Return held-out reward by category on a part of the prompts, one seed each, and show some of the pictures."""
        if not self.assembly.heldout:
            return {}
        with self.averaged():
            result = self._evaluate(self._trained_policy(), self._part(), range(1), (0, 1))
        if self.leads:
            metrics.show(state.iteration - 1, "heldout", sheet_of(result))
        return {f"heldout/{name}": interval.value for name, interval in result.summary().items()}

    @needing("checkpoint")
    def checkpoint(self, state: State) -> None:
        """Keep everything that another session needs to go on exactly here; every process of the run takes part."""
        found = everything(self.assembly.parts, state)
        if self.leads:
            checkpoint.save(self.folder / "checkpoints", state.iteration, found)

    @needing("restoring")
    def restore(self) -> bool:
        """Put back the last whole checkpoint, if there is one."""
        path = checkpoint.latest(self.folder / "checkpoints")
        if path is None:
            return False
        try:
            self.state = put_back(self.assembly.parts, checkpoint.load(path))
        except (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            if is_short(error):
                raise
            raise UserError(f"{path} is no checkpoint of such a run: {type(error).__name__}: {error}") from error
        return True

    def export(self, folder: Path | str | None = None, push: str = "", private: bool = False) -> Path:
        """Write the result as plain diffusers loads it, with a model card; return the folder.

        Of processes that share a run all take part, and one writes.
        With `push`, NAME or OWNER/NAME, it is uploaded to the Hub as well, where it is everyone's unless `private`.
        """
        target = to_folder(self.folder / "export" if folder is None else folder, "--out")
        if folder is not None:
            require_own(target)
        with self.averaged(), made_whole(self.assembly.model.networks.values(), self.assembly.parts.team):
            if self.leads:
                target.mkdir(parents=True, exist_ok=True)
                self.config.model.train.export(self.assembly.model, target)
        if not self.leads:
            return target
        write_card(target, card(self, push))
        if push:
            upload(target, push, private)
        return target

    def report(self, started: float | None = None) -> Path:
        """Write report.html from what is in the folder, and summary.json if it is missing or the run has just ended."""
        return write_results(self, started)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, {self.state.iteration} of {self.config.steps} iterations)"

    def _repr_html_(self) -> str:
        return shown(self)

    def _part(self) -> Sequence[Prompt]:
        """Return the held-out prompts of the curve."""
        return curve_part(self.assembly.heldout, self.config.evaluation.part)

    def _trained_policy(self) -> Policy:
        return self.assembly.parts.actors.policy

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Have the trained weights be their average inside, if the run keeps one."""
        ema = self.assembly.parts.ema
        with nullcontext() if ema is None else ema.swapped():
            yield
            self.assembly.parts.team.meet()  # what others still draw by its part of the weights is by the average too

    @needing("evaluation")
    def _evaluate(
        self,
        policy: Policy,
        prompts: Sequence[Prompt],
        seeds: Sequence[int],
        part: tuple[int, int],
        keep: Keep | None = None,
        alone: bool = False,
    ) -> Evaluation:
        def tick(share: float) -> None:
            if self.progress is not None:
                self.progress.phase("evaluate", (part[0] + share) / part[1])

        judge, batch = self.assembly.judge, self.config.micro_batch
        team, draw = ALONE if alone else self.assembly.parts.team, drawer(self.assembly.parts, policy)
        return evaluate(draw, prompts, judge, seeds, batch=batch, tick=tick, keep=keep, team=team)


def check(
    config: RunConfig | str | Path,
    *,
    reward: RewardFunction | str | None = None,
    prompts: Prompts | str | None = None,
    heldout: Prompts | str | None = None,
    heldout_reward: RewardFunction | str | None = None,
    model: Pipeline | str | Path | None = None,
) -> Preflight:
    """Do the dry run of what `train` would be given: nothing is written, no weight moves."""
    objects = Objects(reward, prompts, heldout, heldout_reward, model)
    config = objects.within(config)
    folder = folder_of(config)
    with relieved(config):
        assembly = assemble(config, objects=objects)
        found = Run(folder, assembly, State()).preflight()
    return replace(found, notices=(*found.notices, *obstacles(folder, config)))


def train(
    config: RunConfig | str | Path,
    *,
    reward: RewardFunction | str | None = None,
    prompts: Prompts | str | None = None,
    heldout: Prompts | str | None = None,
    heldout_reward: RewardFunction | str | None = None,
    model: Pipeline | str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
    accept_changes: bool = False,
) -> Run:
    """Carry out a run: check, evaluate, train, evaluate, export, report. A name stands for its recipe.

    What is given beside the configuration takes the place of what it says there: `reward` is a function of media and
    prompts; `prompts`, and those to measure the result on, `heldout`, are lists of texts or `Prompt`s; `model` is a
    diffusers pipeline, of which limner trains a copy; each may be text as well. Held-out prompts are judged by
    `heldout_reward`, or else by a `reward` that is given. Of an object the run folder keeps its name and a digest:
    `resume` needs it again.

    With `resume` a run that was interrupted goes on from its last checkpoint, bit by bit as if it had not been. If its
    prompts, its rewards or its base have changed since, it does so only if you `accept_changes`.
    Raises UserError before anything is written if the run could not work.
    """
    began, objects = time.monotonic(), Objects(reward, prompts, heldout, heldout_reward, model)
    config = objects.within(config)
    with relieved(config):
        return _trained(config, objects, began, resume=resume, quiet=quiet, accept_changes=accept_changes)


def _trained(
    config: RunConfig, objects: Objects, began: float, *, resume: bool, quiet: bool, accept_changes: bool
) -> Run:
    """Carry out what `train` was asked for."""
    folder, started = folder_of(config), began
    require_usable(folder, config, resume)
    assembly = assemble(config, objects=objects)
    run = Run(folder, assembly, State())
    if run.leads:
        require_unheld(folder)
    found = run.preflight()
    team = assembly.parts.team
    progress = _announced(config, found, quiet, team.leads)
    run.progress, run.notices, run.foretold = progress, found.notices, found.memory
    make(folder)
    metrics = Metrics(folder, to_yaml(config))
    with held(folder) if team.leads else nullcontext(), closing(folder, progress, metrics), among_peers():
        _begin(run, resume, accept_changes)
        if resume:
            progress.say(resumed(folder, run.state.iteration))
        started -= sum(run.state.seconds.values())
        if team.leads:
            metrics.truncate(run.state.iteration)
        progress.done = run.state.iteration
        run.measure("before")
        if config.model.train.whole and not config.algorithm.needs.reference:
            assembly.parts.weights.release_reference()
        curve, shown = partial(run.curve, metrics=metrics), snapshots(run, metrics)
        carry_out(assembly, run.state, Hooks(progress, metrics, run.checkpoint, curve, began, shown))
        run.measure("after")
        if team.leads:
            run.report(started)
        run.export()
        if team.leads and not quiet:
            progress.say(outcome(run))
        team.wait()
    return run


def _announced(config: RunConfig, found: Preflight, quiet: bool, leads: bool) -> Progress:
    """Return the progress line, above it what the dry run had to say."""
    progress = Progress(config.name, config.steps, quiet=quiet, stream=None if leads else io.StringIO())
    for notice in found.notices:
        progress.say(f"note: {notice}")
    if not quiet:
        progress.say(found.estimate())
    return progress


def _begin(run: Run, resume: bool, accept_changes: bool) -> None:
    """Put back what a folder holds of the run, if it is of that run, and write what the run is made of."""
    folder, config, content = run.folder, run.config, provenance(run)
    if run.leads:
        content["changes"] = settle(folder, config, content, resume, accept_changes)
        for notice in content["changes"]:
            run.say(notice)
    run.assembly.parts.team.wait()
    if resume:
        run.restore()
    if not run.leads:
        return
    for notice in require_whole(folder, run.state.iteration, config):
        run.say(notice)
    write_text(folder / "config.yaml", to_yaml(config))
    write_manifest(folder, content)


def open_run(folder: str | Path, trust: bool = False, *, model: Pipeline | None = None) -> Run:
    """Return a run from its folder, at its last checkpoint. Raises UserError if there is none.

    Its rewards and prompts need not be there any more; a pipeline that it was given is its `model` once more. Where its
    configuration names code that is not limner's, as a run by your own algorithm does, it is imported only if you
    `trust` it; else UntrustedCode is raised.
    """
    folder = path_of(folder, "run")
    written = folder / "config.yaml"
    if not written.is_file():
        raise UserError(f"{folder} is no run folder: it has no config.yaml")
    config = written_config(written, None if trust else ())
    objects = Objects(model=model)
    if (named := objects.within(config).model.path) != config.model.path:
        raise UserError(f"{folder} is a run of model {config.model.path}, and what is given is {named}: give that one")
    run = Run(folder, assemble(config, training=False, objects=objects), State())
    if not run.restore():
        require_whole(folder, 0, config)
        raise UserError(f"{folder} has no checkpoint yet; go on with: limner train {written} --resume")
    return run
