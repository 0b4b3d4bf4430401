"""The commands about a run that has ended: pictures from it, its report, and what other tools load."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from limner.commands import words
from limner.commands.parser import AddCommand, add_trust
from limner.core.errors import UserError
from limner.core.paths import to_file
from limner.report.naming import file_name, free

INPUT = "what the model is given beside the text, as image=first.png"
PARTS = "draw clips in as many parts, each going on from the last frames of the one before (1)"
OVERLAP = "frames that a part shares with the one before (about two thirds of it)"
SAMPLE_FILE = "such as x.png, of several a sheet beside x-SEED.png (RUN/samples/PROMPT-SEED.png)"


def add_run_commands(command: AddCommand) -> None:
    """Add `sample`, `report` and `export`."""
    sample = command("sample", _sample, "draw pictures from a finished run")
    sample.add_argument("run", metavar="RUN", type=Path, help="a run folder")
    sample.add_argument("prompt", metavar="PROMPT", type=words.prompt)
    sample.add_argument("--count", type=words.at_most(1000), default=1, help="how many (1)")
    sample.add_argument("--seed", type=words.natural, default=0, help="the same seed draws the same pictures (0)")
    sample.add_argument("--steps", type=words.count, help="denoising steps (the run's)")
    sample.add_argument("--guidance", type=words.number, help="guidance scale (the run's)")
    sample.add_argument("--input", type=words.input_file, action="append", default=[], metavar="NAME=FILE", help=INPUT)
    sample.add_argument("--out", type=Path, metavar="FILE", help=SAMPLE_FILE)
    sample.add_argument("--parts", type=words.count, default=1, help=PARTS)
    sample.add_argument("--overlap", type=words.count, metavar="FRAMES", help=OVERLAP)
    add_trust(sample)
    report = command("report", _report, "write a run's report.html again from its records")
    report.add_argument("run", metavar="RUN", type=Path, help="a run folder")
    add_trust(report)
    export = command("export", _export, "write a run's result for diffusers to load")
    export.add_argument("run", metavar="RUN", type=Path, help="a run folder")
    export.add_argument("--out", type=Path, metavar="DIR", help="a folder (RUN/export)")
    export.add_argument(
        "--push", default="", metavar="REPO", help="upload it to the Hugging Face Hub: NAME or OWNER/NAME"
    )
    export.add_argument("--private", action="store_true", help="a repository that --push makes is not for everyone")
    add_trust(export)


def _sample(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    """Write a file a sample, and of several a sheet of stills as well."""
    from limner.continuation import sample_parts
    from limner.core.types import Prompt
    from limner.report.gallery import save_grid
    from limner.run import open_run

    run = open_run(parsed.run, parsed.trust_code)
    if parsed.out and parsed.out.suffix not in run.suffixes:
        raise UserError(f"--out needs a name that ends in {' or '.join(run.suffixes)}, got {str(parsed.out)!r}")
    out = parsed.out and to_file(parsed.out, "--out")
    suffix = out.suffix if out else run.suffixes[0]
    stem = out.with_suffix("") if out else parsed.run / "samples" / file_name(parsed.prompt)
    seeds = range(parsed.seed, parsed.seed + parsed.count)
    sheet, paths = free(stem, seeds, suffix, named=out is not None)
    paths = [to_file(path, "--out") for path in paths]
    asked = Prompt(parsed.prompt, inputs=dict(parsed.input))
    how = (parsed.count, parsed.seed, parsed.steps, parsed.guidance)
    if parsed.parts > 1:
        media = sample_parts(run, asked, parsed.parts, parsed.overlap, *how)
    else:
        media = run.sample(asked, *how)
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    media.save(paths)
    if sheet is not None:
        save_grid(sheet, media.stills(), [f"seed {seed}" for seed in seeds], columns=min(parsed.count, 8))
    print(sheet or paths[0])


def _report(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    from limner.run import open_run

    print(open_run(parsed.run, parsed.trust_code).report())


def _export(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    from limner.run import open_run

    print(open_run(parsed.run, parsed.trust_code).export(parsed.out, parsed.push, parsed.private))
