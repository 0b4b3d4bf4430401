"""The commands about preferences: people say in a browser which picture is better, or a reward does."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from limner.commands import words
from limner.commands.parser import AddCommand
from limner.core.errors import UserError
from limner.core.paths import to_file

LAYOUTS = ("limner", "pick_a_pic", "hpd", "video_reward", "trl", "kto")


def add_preference_commands(command: AddCommand) -> None:
    """Add `annotate`, `feedback` and `pairs` to the command line."""
    annotate = command("annotate", _annotate, "let people say in a browser which pictures are better")
    annotate.add_argument("place", metavar="PLACE", type=Path, help="a run, folders of pictures, or pairs in a .jsonl")
    annotate.add_argument(
        "--invite", type=words.at_most(1000), default=1, metavar="N", help="print so many new links (1)"
    )
    annotate.add_argument(
        "--votes", type=words.at_most(1000), default=1, metavar="N", help="at most so many a pair (1)"
    )
    annotate.add_argument("--questions", default="overall", metavar="NAMES", help="as in overall,alignment (overall)")
    annotate.add_argument(
        "--ask", choices=("pair", "rate", "rank"), default="pair", help="which of two, how good, in which order (pair)"
    )
    annotate.add_argument(
        "--most", type=words.between(2, 9), default=9, metavar="K", help="pictures of a ranking at most (9)"
    )
    annotate.add_argument("--active", action="store_true", help="ask first what is expected to tell most")
    annotate.add_argument(
        "--known",
        choices=("spoilt", "misplaced", "both"),
        default="spoilt",
        help="known answers: against itself spoilt, another prompt's picture (spoilt)",
    )
    annotate.add_argument("--database", default="", metavar="URL", help="where answers are kept (PLACE/votes.db)")
    annotate.add_argument("--host", default="127.0.0.1", help="where to listen (127.0.0.1)")
    annotate.add_argument("--port", type=words.port, default=8000, help="0: any free one (8000)")
    annotate.add_argument("--address", default="", metavar="URL", help="how others reach this machine, for the links")
    pairs = command("pairs", _pairs, "make pairs of pictures, the better one by a reward; goes on where it stopped")
    pairs.add_argument("verb", metavar="make", choices=["make"])
    pairs.add_argument(
        "model", metavar="MODEL", help="a run folder, a recipe (its base), or a base: name, folder, hub id"
    )
    pairs.add_argument("other", metavar="OTHER", nargs="?", default="", help="draws the second of each pair (MODEL)")
    pairs.add_argument("--reward", default="", metavar="EXPRESSION", help="says which is better (MODEL's)")
    pairs.add_argument("--prompts", default="", metavar="FILE", help="a .txt, .jsonl, or as in scenes:train (MODEL's)")
    pairs.add_argument("--count", type=words.count, default=2000, metavar="N", help="how many are drawn (2000)")
    pairs.add_argument("--seed", type=words.natural, default=0, help="the same seed draws the same pairs (0)")
    pairs.add_argument("--steps", type=words.count, help="denoising steps of the plain ODE (MODEL's sampler)")
    pairs.add_argument("--guidance", type=words.number, help="guidance scale of the plain ODE (MODEL's sampler)")
    pairs.add_argument("--vary", type=words.number, metavar="T", help="both go on from one sample, noised to time T")
    pairs.add_argument("--segment-frames", type=words.count, metavar="N", help="clips are judged by N frames each")
    pairs.add_argument("--out", default="", metavar="DIR", help="a folder (runs/pairs-MODEL)")
    pairs.add_argument("--trust-code", action="store_true", help="run code outside limner that a config.yaml names")
    feedback = command("feedback", _feedback, "what people said: who is better, how far they agree, and all of it")
    feedback.add_argument("verb", metavar="report|export", choices=["report", "export"])
    feedback.add_argument("votes", metavar="VOTES", help="votes.db, a database's URL, or an export in .jsonl")
    feedback.add_argument("--out", type=Path, metavar="FILE", help="(report.html); an export is .jsonl or .parquet")
    feedback.add_argument("--layout", choices=LAYOUTS, default="limner", help="of the export (limner)")
    feedback.add_argument("--each-vote", action="store_true", help="export: a row for each vote, not for each pair")
    feedback.add_argument(
        "--without", action="append", default=[], metavar="NAME", help="export: leave an annotator out (again: more)"
    )
    feedback.add_argument(
        "--least-known", type=words.share, default=0.0, metavar="SHARE", help="export: of known answers right (0)"
    )
    feedback.add_argument(
        "--least-right", type=words.share, default=0.0, metavar="SHARE", help="export: of reliability, as reported (0)"
    )


def _annotate(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    try:
        from limner.annotate import annotate
    except ModuleNotFoundError as error:
        raise UserError(f"annotate needs {error.name}: pip install 'limner[annotate]'") from error
    annotate(**words.told(parsed))


def _pairs(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    from limner.pairs import make

    settings = words.told(parsed)
    print(make(settings.pop("model"), settings.pop("other"), trust=settings.pop("trust_code"), **settings))


def _feedback(parsed: argparse.Namespace, values: dict[str, Any]) -> None:
    try:
        from limner.feedback.report import collected, report
    except ModuleNotFoundError as error:
        raise UserError(f"feedback report needs {error.name}: pip install 'limner[annotate]'") from error
    from limner.report.file import write_text
    from limner.report.page import page

    if parsed.verb == "export":
        from limner.feedback.saved import export

        trusted = parsed.without, parsed.least_known, parsed.least_right
        print(export(parsed.votes, parsed.out, parsed.layout, parsed.each_vote, *trusted))
        return
    if parsed.without or parsed.least_known or parsed.least_right:
        raise UserError("--without, --least-known and --least-right are of feedback export; a report shows everybody")
    out, votes = to_file(parsed.out or Path("report.html"), "--out"), Path(parsed.votes)
    title = votes.parent.name if votes.name == "votes.db" and votes.parent.name else votes.stem
    write_text(out, page(report(collected(parsed.votes), title)))
    print(out)
