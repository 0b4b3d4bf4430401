"""`limner pairs make`: pairs of pictures that a reward tells apart, for whoever learns from preferences.

A folder of pairs has pairs.jsonl, a line a pair in limner's own layout, the pictures that it names, and made.json: what
made them, and how many pairs were drawn so far. Clips may be judged segment by segment, and both of a pair be varieties
of one sample, so that they move alike and segments have something to compare (DenseDPO, arXiv:2506.03517).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limner.build import assemble, drawer, latents_drawer, load_prompts
from limner.core.errors import UserError
from limner.core.media import Videos
from limner.core.paths import path_of, text_of, to_folder
from limner.core.protocols import Jury, Policy
from limner.core.rng import Rng
from limner.core.tree import concatenate, select
from limner.core.types import Prompt
from limner.data.lines import parse_object, read_lines
from limner.data.sampler import PromptSampler
from limner.judges import compose
from limner.policies.denoising import Denoising
from limner.policies.varied import Varied
from limner.recipes.named import recipe
from limner.registry.names import RECIPES
from limner.report.file import write_text
from limner.rollout.score import shown
from limner.run import Run, open_run
from limner.training.config import Model, RunConfig
from limner.training.state import State

INDEX, MADE, PICTURES = "pairs.jsonl", "made.json", "pictures"
SIDES = ("a", "b")
BATCH = 64
"""Pairs that are drawn, judged and written down at once, or the `micro_batch` of the first model, if that is less."""


@dataclass(frozen=True)
class Making:
    """How pairs are made: picture a by the first model, b by the last, both judged by `reward`."""

    models: tuple[str, ...]
    reward: str
    prompts: str
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    """Of the plain ODE; None, both: each model is sampled as its recipe or run says."""
    vary: float | None = None
    """Time to which a sample of the first model is noised again, from where both go on; None: each from its noise."""
    segment_frames: int | None = None
    """Frames of a segment that is judged by itself; None: clips are judged as a whole."""

    def settings(self) -> dict[str, Any]:
        """Return what made.json says of it."""
        return {**vars(self), "models": list(self.models)}


def make(
    model: str,
    other: str = "",
    *,
    reward: str = "",
    prompts: str = "",
    count: int = 2000,
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    vary: float | None = None,
    segment_frames: int | None = None,
    out: str | Path = "",
    trust: bool = False,
) -> Path:
    """Draw and judge `count` pairs, or as many as are missing in the folder `out`; return that folder.

    A model is a run folder, a recipe (its base), or the base of a name, folder or hub id. The reward and the prompts
    are by default those of the first. Pairs that the reward does not tell apart are left out. With `vary`, in (0, 1),
    both of a pair begin with one sample of the first, noised to that time.
    """
    if vary is not None and not 0 < vary < 1:
        raise UserError(f"--vary is a time between 0, the sample itself, and 1, nothing but noise, got {vary:g}")
    runs = [opened(name, trust) for name in (model, other) if name]
    config = runs[0].config
    models = (model, other) if other else (model,)
    making = Making(
        models, reward or config.reward, prompts or config.prompts, seed, steps, guidance, vary, segment_frames
    )
    asked, judges = load_prompts(making.prompts), compose(making.reward)
    folder = to_folder(out or Path("runs") / f"pairs-{Path(model).name}", "--out")
    done, rows = begun(folder, making)
    batch = min(BATCH, config.micro_batch)
    order = PromptSampler(len(asked), 1, seed)
    while done < count:
        pairs = range(done, min(done + batch, count))
        chosen = [asked[int(order.indices(i))] for i in pairs]
        rows += _drawn(folder, runs, judges, making, pairs, chosen)
        done = pairs.stop
        write_text(folder / INDEX, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        write_text(folder / MADE, json.dumps(making.settings() | {"drawn": done}, indent=2) + "\n")
        print(f"{done} of {count} pairs drawn, {len(rows)} told apart", file=sys.stderr)
    if not rows:
        raise UserError(
            f"{making.reward} tells none of {done} pairs apart: draw more with --count, or ask another reward"
        )
    return folder


def opened(name: str, trust: bool = False) -> Run:
    """Return a run from its folder, or one that has not begun, of a recipe or a base."""
    if (path_of(name, "model") / "config.yaml").is_file():
        return open_run(name, trust)
    config = recipe(name) if name in RECIPES else RunConfig(name="pairs", model=Model(path=name))
    return Run(Path(), assemble(config, training=False), State())


def begun(folder: Path, making: Making) -> tuple[int, list[Mapping[str, Any]]]:
    """Return how many pairs were drawn into a folder, and the rows of those that were told apart.

    Raises UserError for a folder of something else, or of pairs that were made otherwise.
    """
    if not (folder / MADE).exists():
        if folder.is_dir() and (there := {each.name for each in folder.iterdir()} - {PICTURES, INDEX, f".{MADE}.part"}):
            raise UserError(f"{folder} holds {min(there)} and is no folder of pairs; choose another with --out")
        if (folder / INDEX).exists():
            raise UserError(f"{folder} holds pairs that were not made here; choose another folder with --out")
        return 0, []
    made = parse_object(text_of(folder / MADE, str(folder / MADE)), str(folder / MADE))
    done = made.pop("drawn", 0)
    for key, value in making.settings().items():
        if made.get(key) != value:
            raise UserError(f"{folder} holds pairs of {key} {made.get(key)}, not {value}; choose another with --out")
    rows = [parse_object(line, f"{folder / INDEX}, line {i}") for i, line in read_lines(folder / INDEX, str(folder))]
    return done, [row for row in rows if row["pair"] < done]


def _drawn(
    folder: Path, runs: Sequence[Run], judges: Jury, making: Making, pairs: Sequence[int], prompts: list[Prompt]
) -> list[Mapping[str, Any]]:
    """Draw and judge pairs, and write the pictures of those that are told apart; return their rows."""
    start, *seeds = [[Rng(("pairs", making.seed, i, side)).seed() for i in pairs] for side in ("start", *SIDES)]
    around = None if making.vary is None else _latents(runs[0], making, prompts, start)
    sides = [_samples(run, making, prompts, some, around) for run, some in zip((runs[0], runs[-1]), seeds, strict=True)]
    seen = shown(concatenate(sides))
    score = judged(judges, seen.media, [*prompts, *prompts])
    score = score.masked_fill(~seen.finite, torch.nan).reshape(len(SIDES), -1)
    said = None if making.segment_frames is None else labels(judges, seen.media, prompts, making.segment_frames)
    differ = score[0] != score[1] if said is None else said.any(1)
    apart = (differ & score.isfinite().all(0)).nonzero()[:, 0]
    suffix = runs[0].suffixes[0]
    rows: list[Mapping[str, Any]] = []
    (folder / PICTURES).mkdir(parents=True, exist_ok=True)
    for k in apart.tolist():
        names = [f"{PICTURES}/{pairs[k]:06d}-{side}{suffix}" for side in SIDES]
        select(seen.media, torch.tensor([k, len(pairs) + k])).save([folder / name for name in names])
        a, b = score[:, k].tolist()
        rows.append(
            {
                "pair": pairs[k],
                "prompt": prompts[k].text,
                "media_a": names[0],
                "media_b": names[1],
                "choice": SIDES[int(b > a)] if a != b else "tie",
                "score_a": a,
                "score_b": b,
            }
            | ({} if said is None else {"segments": said[k].tolist(), "segment_frames": making.segment_frames})
        )
    return rows


def _samples(run: Run, making: Making, prompts: Sequence[Prompt], seeds: Sequence[int], around: Tensor | None) -> Any:
    policy = _policy(run, making)
    if around is not None and making.vary is not None:
        policy = Varied(cast(Denoising, policy), making.vary, around)
    with run.averaged():
        return drawer(run.assembly.parts, policy)(prompts, seeds)


def _latents(run: Run, making: Making, prompts: Sequence[Prompt], seeds: Sequence[int]) -> Tensor:
    policy = _policy(run, making)
    if not isinstance(policy, Denoising):
        raise UserError("--vary noises samples again, which models of another kind than diffusion cannot: leave it out")
    with run.averaged():
        return latents_drawer(run.assembly.parts, policy)(prompts, seeds)


def _policy(run: Run, making: Making) -> Policy:
    own = making.steps is None and making.guidance is None
    return run.assembly.policy("policy", None if own else run.config.sampler.plain(making.steps, making.guidance))


def labels(judges: Jury, media: Any, prompts: Sequence[Prompt], length: int) -> Int[Tensor, "pairs segments"]:
    """Return of each segment of `length` frames 1 where the first of a pair is better, -1 the second, and 0 for a tie.

    `media` are the first ones of all pairs, then the second ones. What is left over at the end, if it is no more than
    half a segment, is judged with the one before. A segment that cannot be judged is a tie.
    """
    if not isinstance(media, Videos):
        raise UserError(f"--segment-frames is of clips, and the model draws {type(media).__name__}: leave it out")
    frames = media.values.shape[1]
    found: list[Tensor] = []
    for start in range(0, frames, length):
        if found and 2 * (frames - start) <= length:
            found.append(found[-1])
            continue
        stop = start + length if 2 * (frames - start - length) > length else frames
        part = replace(media, values=media.values[:, start:stop])
        first, second = judged(judges, part, [*prompts, *prompts]).reshape(len(SIDES), -1)
        found.append((first > second).int() - (first < second).int())
    return torch.stack(found, 1)


def judged(judges: Jury, media: Any, prompts: Sequence[Prompt]) -> Float[Tensor, " batch"]:
    """Return what samples are worth, NaN where that cannot be said; both of a pair are a group."""
    group = torch.arange(len(prompts) // len(SIDES)).repeat(len(SIDES))
    with torch.no_grad():
        columns = judges.columns(media, prompts) | judges.comparisons(media, prompts, group)
    composed = judges.total({name: column.double() for name, column in columns.items()}, group)
    return composed.total.masked_fill(~composed.valid, torch.nan)
