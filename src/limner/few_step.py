"""`limner distill`: a student of few steps of a model, as a folder that its library loads.

A folder of it has config.yaml, log.jsonl, what a killed process goes on from, and pipeline/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from limner.build import load_model, load_prompts
from limner.core.errors import UserError
from limner.engine.device import resolve
from limner.engine.precision import Precision
from limner.engine.start import start_from
from limner.recipes.named import recipe
from limner.recipes.override import override
from limner.registry.names import RECIPES
from limner.training.config import Model, RunConfig
from limner.training.distill import Distillable, Distillation, distill
from limner.training.fit import begin, require_same

PIPELINE = "pipeline"


def make(name: str, folder: Path | None, values: Mapping[str, Any]) -> Path:
    """Distil the base of a recipe, or of a name, folder or hub id, and return the folder of the student's pipeline.

    No folder means runs/distill-NAME. What was begun there with the same settings goes on. Raises UserError for a model
    that no student can be made of yet.
    """
    run = recipe(name) if name in RECIPES else RunConfig(name="distill", model=Model(path=name))
    config = override(Distillation(prompts=run.prompts), values)
    prompts = load_prompts(config.prompts)
    folder = folder or Path("runs") / f"distill-{Path(name).name}"
    teacher = load_model(run.model, Precision("float32"), resolve("auto"))
    if not isinstance(teacher, Distillable):
        raise UserError(
            f"{name} is a {type(teacher).__name__}: students of few steps are made of models of the kind sd3"
        )
    if config.start and (updates := start_from(config.start, teacher.networks, "start")) is not None:
        updates.merge(teacher.networks)
    asked = {"model": run.model.path, **asdict(config)}
    require_same(folder, asked, ("checkpoint_seconds",))
    student = teacher.few_step()
    distill(teacher, student, prompts, config, folder, begin(folder, asked))
    student.export_pipeline(folder / PIPELINE)
    return folder / PIPELINE
