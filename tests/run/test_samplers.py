"""Samplers by name, and a sampler of someone else's, through whole runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import limner
from limner.build import drawer
from limner.cli import main
from limner.core.errors import UserError
from limner.core.protocols import Algorithm, Denoiser
from limner.core.types import Prompt
from limner.diffusion.dynamics import DPMSolver, EulerODE
from limner.policies.denoising import Denoising, Sampler
from limner.recipes.yaml import to_yaml
from limner.training.config import Evaluation, NamedSampler
from run.miniature import Miniature


def test_a_third_sampler_by_name_is_measured_stored_and_reported(miniature: Miniature, tmp_path: Path) -> None:
    """From a configuration as text, through the command line, to the report; one of three is of the base alone."""
    solver = NamedSampler("solver", Sampler(DPMSolver(), steps=3, grid="linear"))
    strong = NamedSampler("strong", Sampler(EulerODE(), steps=1, guidance=3.0), "before")
    evaluation = Evaluation(str(miniature.prompts), seeds=2, ode_steps=2, samplers=(solver, strong))
    recipe = tmp_path / "recipe.yaml"
    own = Sampler(EulerODE(), steps=4, guidance=1.5, update_guidance=1.0)
    recipe.write_text(to_yaml(miniature.config(tmp_path / "run", steps=1, evaluation=evaluation, sampler=own)))
    assert main(["train", str(recipe), "--quiet"]) == 0
    folder = tmp_path / "run"
    assert sorted(path.name for path in (folder / "samples").iterdir()) == [
        "after-ode", "after-sampler", "after-solver", "before-ode", "before-sampler", "before-solver", "before-strong",
    ]  # fmt: skip
    page = (folder / "report.html").read_text()
    order = [page.index(text) for text in ("Held-out prompts", "With the plain ODE", "By solver", "By strong")]
    assert order == sorted(order) and "Only the base is drawn by it" in page and "before and after" in page
    scales = {"sampler": 1.5, "ode": 1.0, "solver": 1.0, "strong": 3.0}
    told = json.loads((folder / "summary.json").read_text())["guidance"]
    assert told == {"rollout": 1.5, "update": 1.0, "evaluation": scales}
    assert "Guidance: rollout 1.5, update 1, evaluation by sampler 1.5, evaluation by ode 1, " in page
    run = limner.open_run(folder)
    assert run.report().read_text() == page
    # What stands under the name is what that sampler draws of the base.
    first = json.loads((folder / "samples" / "before-strong" / "rewards.json").read_text())["rewards"][0]["prompt"]
    draw = drawer(run.assembly.parts, run.assembly.policy("reference", strong.sampler))
    picture = np.asarray(Image.open(folder / "samples" / "before-strong" / "000-1.png"))
    drawn = (draw([Prompt(first)], [1]).rounded().pixels[0] * 255).round().permute(1, 2, 0).numpy()
    assert np.abs(picture - drawn).max() <= 1 and picture.std() > 1


@pytest.mark.parametrize(
    ("names", "message"),
    [(("fast", "fast"), "got 'fast'"), (("ode",), "none of .*'ode'.*got 'ode'"), (("../x",), "small letters")],
)
def test_names_are_unique_and_can_be_folders(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Evaluation(samplers=tuple(NamedSampler(name) for name in names))


@dataclass(frozen=True)
class Eager:
    """A sampler that limner does not know: Euler's steps, as many as it has stars, and nothing it could be asked of."""

    stars: str = "***"

    def policy(self, model: Denoiser) -> Denoising:
        return Sampler(EulerODE(), len(self.stars)).policy(model)

    def require(self, algorithm: Algorithm, group_size: int) -> None:
        if algorithm.needs.path:
            raise UserError(f"an eager sampler has no path, which {type(algorithm).__name__} needs")

    def plain(self, steps: int | None = None, guidance: float | None = None) -> Eager:
        return Eager("*" * (steps or len(self.stars)))

    def described(self) -> Mapping[str, str]:
        return {"Stars": self.stars}

    def call(self) -> Mapping[str, Any]:
        return {"num_inference_steps": len(self.stars)}


def test_a_run_asks_no_more_of_a_sampler_than_the_protocol(miniature: Miniature, tmp_path: Path) -> None:
    evaluation = Evaluation(str(miniature.prompts), seeds=2, ode_steps=5, guidance=2.0)
    eager: Any = Eager()
    config = miniature.config(tmp_path / "run", steps=1, evaluation=evaluation, sampler=eager)
    run = limner.train(config, quiet=True)
    card = (tmp_path / "run" / "export" / "README.md").read_text()
    assert "| Stars | *** |" in card and "num_inference_steps=3" in card and "guidance_scale" not in card
    like = replace(config, sampler=Sampler(EulerODE(), 3), out=str(tmp_path / "like"))
    torch.testing.assert_close(
        run.sample("red").media.pixels, limner.train(like, quiet=True).sample("red").media.pixels
    )
    assert run.sample("red", steps=7).media.pixels.shape == (4, 3, 32, 32)
    with pytest.raises(UserError, match="an eager sampler has no path, which FlowGRPO needs"):
        replace(config, algorithm=limner.FlowGRPO())
