"""Train the motion base on time alone, no prompt asked about: a static reward freezes clips, a composite does not.

    python benchmarks/temporal.py train static [--seed 0] [--steps 20]     # runs/temporal/static-0
    python benchmarks/temporal.py train composite [--seed 0] [--steps 48]  # runs/temporal/composite-0
    python benchmarks/temporal.py train held [--seed 0] [--steps 40]
    python benchmarks/temporal.py foresee  # what a small step along the composite and its variants would change
    python benchmarks/temporal.py draw     # docs/results/temporal.json, temporal.png and temporal_clips_*.png

`static` asks for equal neighbours, and nothing says that anything is to move. `composite` asks that what moves is there
throughout, with the same colours and as large as before, and multiplies all of it by how much moves. `held` adds up the
same terms, so that a change of any mean that is measured is worth alike whatever the others are, and holds the mean of
what moves at the base's, by a multiplier that grows while it falls short and shrinks while it exceeds. Measured are 112
held-out prompts x 4 seeds, base and averaged weights at equal noise, with the run's own sampler; intervals are 95 %, by
Student's t over prompts. The exact checker of the prompts and its tracker are asked as well, and are in no reward.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import limner
from limner.bench.plotting import pyplot
from limner.build import assemble, drawer
from limner.core.media import Media, Videos, levels
from limner.core.tree import concatenate
from limner.core.types import Prompt
from limner.evaluate.protocol import Draw
from limner.evaluate.statistics import mean_interval, paired_interval
from limner.judges import compose
from limner.recipes.override import override
from limner.report.file import write_text
from limner.report.metrics import read
from limner.run import open_run
from limner.training.config import RunConfig
from limner.worlds.motion.grammar import prompts
from limner.worlds.motion.tracker import track

PLACE = Path("runs/temporal")
COMPOSITE = (
    "video_warp ** 400 * video_consistency ** 2 * video_track.mass ** 2 * video_track.survival * video_dynamics ** 0.9"
)
SUM = "video_consistency + 0.5 * video_track.mass + video_track.survival + 250 * video_warp"
REWARDS = {
    "static": "0.5 * video_flicker + 0.5 * video_smoothness",
    "composite": COMPOSITE,
    "held": f"constrained({SUM}, video_dynamics.motion >= 0.0298, "
    "rate=20, proportional=600, start=13, limit=60, mean=True)",
}
"""Both were chosen on samples of the base for training prompts (`foresee`), whose mean of motion is .0298.
`video_track.path` allows no bounce; the base's own motion, min(m / base, base / m), asks what falls to slow down and
what stays to move."""
VARIANTS = {
    "composite": COMPOSITE,
    "the sum, and motion held": f"{SUM} + 13 * video_dynamics.motion",
    "... times path": f"{COMPOSITE} * video_track.path",
    "... relative to the base": COMPOSITE.replace("video_dynamics", "video_dynamics(base={base:.4f})"),
    "... dynamics ** 0.5": COMPOSITE.replace("0.9", "0.5"),
    "... warp ** 200": COMPOSITE.replace("400", "200"),
}
"""What `foresee` compares."""
CHANGES = f"{Path(__file__)}:changes"
TERMS = {
    "warp error": "1 - video_warp",
    "colours that change": "1 - video_consistency",
    "changes (tracker)": CHANGES,
    "not what was asked (checker)": "1 - motion.identity",
    "motion": "video_dynamics.motion",
    "flicker": "1 - video_flicker",
    "path": "video_track.path",
    "mass": "video_track.mass",
    "asked for (checker)": "motion",
}
"""What is measured, by name: of the first four less is better, and the fifth is to stay."""
MOTION = "video_dynamics.motion"
SHOWN = (0, 14, 42, 56)
"""Held-out prompts whose clips are drawn: they move, move at a speed, fall and bounce."""


def main() -> None:
    """Train, foresee, or draw what the runs say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("train", "foresee", "draw"))
    parser.add_argument("reward", choices=tuple(REWARDS), nargs="?", default="composite")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    options = parser.parse_args()
    if options.task == "train":
        train(options.reward, options.seed, options.steps)
    elif options.task == "foresee":
        foresee()
    else:
        draw(options.out)


def recipe() -> RunConfig:
    """Return the recipe motion as it was when this was measured: clips in six steps, learned from at two times."""
    return override(limner.recipe("motion"), {"sampler.steps": 6, "algorithm.num_times": 2})


def train(reward: str, seed: int, steps: int) -> None:
    """Train by the recipe motion against a reward of time."""
    base = recipe()
    place = PLACE / f"{reward}-{seed}"
    config = replace(
        base,
        name=f"motion-{reward}",
        reward=f"{REWARDS[reward]} + 0 * {MOTION} + 0 * video_warp",
        evaluation=replace(base.evaluation, prompts="", reward="", every=0, ode_steps=0, guidance=1.0),
        steps=steps,
        seed=seed,
        out=str(place),
    )
    limner.train(config, resume=(place / "checkpoints").exists())


def foresee(each: int = 7, seeds: int = 8) -> None:
    """Print what a small step along each variant would do to each term, as a share of its mean, and the base's motion.

    Samples of the base for one training prompt are a group, and z a variant's reward, normalised in it: weighing them
    by 1 + epsilon z changes the mean of a term y by epsilon E[z y].
    """
    base = recipe()
    assembly, asked = assemble(base), prompts("train", each)
    clips = drawn(
        drawer(assembly.parts, assembly.policy("reference")), asked, range(100, 100 + seeds), base.micro_batch
    )
    known = {name: values.nan_to_num() for name, values in judged(clips, asked, TERMS).items()}
    own = float(known["motion"].mean())
    print(f"the base's own motion on {len(asked)} training prompts: {own:.4f}", flush=True)
    for name, text in VARIANTS.items():
        reward = judged(clips, asked, {name: text.format(base=own)})[name].nan_to_num()
        apart = reward - reward.mean(1, keepdim=True)
        z = apart / (apart.square().mean(1, keepdim=True).sqrt() + 1e-3)
        steps = {term: round(float((z * y).mean() / y.mean()), 3) for term, y in known.items()}
        print(f"{name:26} {steps}", flush=True)


def changes(media: Media, prompts: Sequence[Prompt]) -> Tensor:
    """Return 0 where each thing that the checker's tracker sees keeps colour, outline and size, whatever was asked."""
    tracks = [track(clip) for clip in levels(media.frames()).permute(0, 1, 3, 4, 2).numpy()]
    return torch.tensor([0.0 if each and all(one.steady for one in each) else 1.0 for each in tracks])


def drawn(draw: Draw, asked: Sequence[Prompt], seeds: Sequence[int], batch: int) -> Media:
    """Return a clip of each prompt at each seed, as files hold them: all of the first prompt first."""
    cells = [(prompt, seed) for prompt in asked for seed in seeds]
    parts = [cells[i : i + batch] for i in range(0, len(cells), batch)]
    return concatenate([draw([p for p, _ in part], [s for _, s in part]).rounded() for part in parts])


def judged(clips: Media, asked: Sequence[Prompt], terms: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the value of each term, [prompts, seeds]; NaN where a clip shows nothing that could be judged."""
    seeds = len(clips) // len(asked)
    repeated = [prompt for prompt in asked for _ in range(seeds)]
    found = {}
    for name, text in terms.items():
        output = compose(text)(clips, repeated)
        found[name] = output.score.double().masked_fill(~output.valid, torch.nan).reshape(len(asked), seeds)
    return found


def measured(folder: Path) -> dict[str, Any]:
    """Return what a run changed on held-out prompts, term by term, and its clips before and after."""
    run = open_run(folder)
    batch, asked = run.config.micro_batch, prompts("heldout", 14)
    clips = {"before": drawn(drawer(run.assembly.parts, run.assembly.policy("reference")), asked, range(4), batch)}
    with run.averaged():
        clips["after"] = drawn(drawer(run.assembly.parts, run.assembly.policy("policy")), asked, range(4), batch)
    before, after = (judged(each, asked, TERMS) for each in clips.values())
    return {
        "reward": run.config.reward,
        "steps": run.config.steps,
        "terms": {name: change(before[name], after[name]) for name in TERMS},
        "curve": [{key: line[key] for key in CURVE} for line in read(folder)],
        "clips": clips,
    }


COLOURS = {"static": "tab:red", "composite": "tab:blue", "held": "tab:green"}
CURVE = ("reward/mean", f"reward/{MOTION.replace('.', '/')}", "reward/video_warp")


def change(before: Tensor, after: Tensor) -> dict[str, Any]:
    """Return the mean before and after, where both could be judged, their ratio, and the paired change."""
    valid = before.isfinite() & after.isfinite()
    if not valid.any():
        return {"judged": 0.0}
    one, two = before.nan_to_num(), after.nan_to_num()
    means = [float(each[valid].mean()) for each in (one, two)]
    return {
        "before": asdict(mean_interval(one, valid)),
        "after": asdict(mean_interval(two, valid)),
        "after / before": means[1] / means[0],
        "change": asdict(paired_interval(one, two, valid)),
        "judged": float(valid.double().mean()),
    }


def draw(out: Path) -> None:
    """Write what the runs here say, beside what is written of others, and the curves of all.

    Of the base and the runs of seed 0 that are here clips are drawn at equal noise, a picture named by these.
    """
    path = out / "temporal.json"
    runs = json.loads(path.read_text()) if path.exists() else {}
    strips: dict[str, Media] = {}
    for folder in sorted(each.parent for each in PLACE.glob("*-*/summary.json")):
        runs[folder.name] = run = measured(folder)
        clips = run.pop("clips")
        if folder.name.endswith("-0"):
            strips |= {"base": clips["before"], folder.name: clips["after"]}
    write_text(path, json.dumps(dict(sorted(runs.items())), indent=1) + "\n")
    print(json.dumps({name: run["terms"] for name, run in runs.items()}, indent=1))
    curves(runs, out / "temporal.png")
    if strips:
        kinds = [name.partition("-")[0] for name in strips if name != "base"]
        filmed(strips, out / f"temporal_clips_{'_'.join(kinds)}.png")


def curves(runs: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw what the training reward gained, the motion of training samples, and their warp error, over iterations."""
    plt = pyplot()
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    titles = ("training reward, less the first", "motion, shares of the side a frame", "1 - warp error")
    for name, run in runs.items():
        colour = COLOURS[name.partition("-")[0]]
        for axis, key, title in zip(axes, CURVE, titles, strict=True):
            first = run["curve"][0][key] if key == CURVE[0] else 0.0
            axis.plot([line[key] - first for line in run["curve"]], color=colour, label=name)
            axis.set(title=title, xlabel="iteration")
    axes[1].axhline(0, color="grey", linewidth=0.5)
    axes[0].legend()
    figure.savefig(path, dpi=110)


def filmed(strips: Mapping[str, Media], path: Path) -> None:
    """Draw every other frame of some clips, a row each: of one prompt the base's, then each run's at the same noise."""
    rows = []
    for prompt in SHOWN:
        for clips in strips.values():
            assert isinstance(clips, Videos)
            frames = clips.frames()[4 * prompt, ::2]
            rows.append(np.concatenate(list((frames * 255).round().byte().permute(0, 2, 3, 1).numpy()), axis=1))
        rows.append(np.full((8, *rows[-1].shape[1:]), 255, np.uint8))
    picture = Image.fromarray(np.concatenate(rows[:-1]))
    picture.resize((3 * picture.width, 3 * picture.height), Image.Resampling.NEAREST).save(path)


if __name__ == "__main__":
    main()
