"""`limner feedback export`: all that people said, as a file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limner.core.errors import UserError
from limner.core.paths import path_of, to_file, whole
from limner.data.lines import parse_object, read_lines
from limner.feedback.export import ExportRow, rows
from limner.feedback.layouts import Layout, laid_out
from limner.feedback.ledger import Ledger
from limner.feedback.trust import untrusted
from limner.report.file import write_text


def export(
    place: str,
    out: Path | None,
    layout: Layout = "limner",
    each_vote: bool = False,
    without: Sequence[str] = (),
    least_known: float = 0.0,
    least_right: float = 0.0,
) -> Path:
    """Write what a ledger holds to `out`, .jsonl or .parquet, and return that; pictures are named from its folder.

    Annotators that `untrusted` names are left out, and who they are, and why, is said. Raises UserError if there is
    nothing to write, or pairs that people are asked about would be written over.
    """
    if out is None:
        raise UserError("feedback export: say with --out where it is written, as in --out pairs.jsonl")
    target = to_file(out, "--out")
    if target.suffix not in (".jsonl", ".parquet"):
        raise UserError(f"--out {target}: an export is .jsonl or .parquet")
    _require_no_questions(target)
    ledger = ledger_at(place)
    absent, unsaid = untrusted(ledger, without, least_known, least_right)
    for line in [f"left out: {name}, {why}" for name, why in absent.items()] + [f"stays: {each}" for each in unsaid]:
        print(line, file=sys.stderr)
    found = [_from(target.parent, row) for row in laid_out(rows(ledger, each_vote, absent), layout)]
    if not found:
        whose = ", but by who was left out," if absent else ""
        raise UserError(f"votes {place}: nothing was said there yet{whose} that layout {layout} has a place for")
    if target.suffix == ".parquet":
        _write_parquet(found, target)
    else:
        write_text(target, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found))
    return target


def _require_no_questions(target: Path) -> None:
    """Refuse to write over pairs that people are asked about, such as those of limner pairs make."""
    if target.suffix == ".jsonl" and target.exists():
        row = next((parse_object(line, f"{target}") for _, line in read_lines(target, f"{target}")), {})
        if "media_a" in row and "annotators" not in row:
            raise UserError(f"--out {target}: it holds pairs that are no export; choose another name")


def ledger_at(place: str) -> Ledger:
    """Return the ledger of a .db file or a URL. Raises UserError if there is none."""
    if "://" not in place and not path_of(place, "votes").is_file():
        raise UserError(f"votes {place}: no such file; give votes.db, a database's URL, or an export in .jsonl")
    return Ledger(place if "://" in place else f"sqlite:///{Path(place).resolve()}", new=False)


MEDIA = (
    *("media_a", "media_b", "image", "images", "completion", "chosen", "rejected"),
    *("jpg_0", "jpg_1", "file_path", "image_path", "path_A", "path_B"),
)
"""Columns that name pictures."""
FACTS = ("facts", "facts_a", "facts_b")


def _from(folder: Path, row: ExportRow) -> ExportRow:
    """Return a row whose pictures are named from a folder, so that both can be moved together."""

    def named(value: Any) -> Any:
        return [named(each) for each in value] if isinstance(value, list) else os.path.relpath(value, folder.resolve())

    return {key: named(value) if key in MEDIA else value for key, value in row.items()}


def _write_parquet(found: Sequence[ExportRow], target: Path) -> None:
    try:
        from pyarrow import Table
        from pyarrow.parquet import write_table
    except ImportError as error:
        raise UserError(f"--out {target}: writing .parquet needs pyarrow: pip install limner[parquet]") from error
    columns = dict.fromkeys(name for row in found for name in row)  # Arrow would take those of the first row alone
    found = [{name: _told(name, row.get(name)) for name in columns} for row in found]
    with whole(target) as part:
        write_table(Table.from_pylist(found), part)


def _told(name: str, value: Any) -> Any:
    """Return what a cell holds; facts, of which each row may have others, are JSON."""
    return json.dumps(value, ensure_ascii=False) if name in FACTS and value is not None else value
