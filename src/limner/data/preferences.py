"""What people, or a judge, said of pictures: files in the layouts that are about, and two folders.

All become one thing: the pictures that were made for one prompt, and what each is worth, from 0 to 1. A pair is worth
(1, 0), a tie (.5, .5), "both good" (1, 1), "both bad" (0, 0), votes their shares, a ranking its order; a single picture
that was liked, or not, is worth 1 or 0.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from limner.core.errors import UserError, shown
from limner.core.paths import SUFFIXES, path_of, text_of
from limner.core.types import Prompt
from limner.data.embedded import embedded_prompt
from limner.data.lines import parse_object, read_lines
from limner.data.rows import Row, Segments, Unusable, Votes, preference_of

BETTER = ("chosen", "better", "good", "win", "winner", "positive")
WORSE = ("rejected", "worse", "bad", "lose", "loser", "negative")
MASKS = ("mask", "masks")
INDEX = ("pairs.jsonl", "preferences.jsonl", "train.jsonl", "metadata.jsonl")
"""Names of what is looked for in a folder."""

Broken = Literal["refuse", "skip"]
"""Whether what cannot be read stops everything, or is left out and told of."""


@dataclass(frozen=True)
class Preference:
    """Pictures made for one prompt, and what each is worth; `where` they were found, and where alone they count.

    A picture is a file, or the bytes of one. Of a pair there may be the votes (first, tie, second) by question, who
    cast them, and what was said of its parts in time.
    """

    prompt: Prompt
    pictures: tuple[Path | bytes, ...]
    worth: tuple[float, ...]
    where: str
    mask: Path | None = None
    votes: Mapping[str, Votes] = field(default_factory=dict)
    people: tuple[str, ...] = ()
    segments: Segments | None = None
    active: bool = False
    """Whether it was asked since that was expected to tell much: nothing is measured by it."""

    @property
    def tells_apart(self) -> bool:
        """Whether one picture is better than another, or was said to be so in some part of a pair of clips."""
        return min(self.worth) < max(self.worth) if self.segments is None else any(self.segments.labels)


def read_preferences(
    data: str | Path, worse: str | Path = "", masks: str | Path = "", broken: Broken = "refuse"
) -> tuple[list[Preference], list[str]]:
    """Return the preferences of a file or folder, and, of a `broken` one that is skipped, where and why.

    A `.jsonl`, `.csv` or `.parquet` file has a preference a row, in a layout that `limner.data.rows` knows; pictures
    are named from its folder. A folder has such a file in it, or two folders, "chosen" and "rejected", with pictures of
    equal names, and perhaps a third with masks; or it is the better one, and `worse` and `masks` the others. Raises
    UserError, one line, for what is not there, not of a known layout, or holds no preference.
    """
    if not str(data):
        raise UserError("no preferences: name a file or folder with --source.data")
    data = path_of(data, "preferences")
    if not data.exists():
        raise UserError(f"preferences {data}: no such file or folder")
    index = next((data / name for name in INDEX if (data / name).is_file()), None) if data.is_dir() else data
    if index is not None and not worse:
        found: Iterable[Preference | UserError] = _of_file(index)
    else:
        found = _of_folders(*_folders(data, worse, masks))
    good, bad = [], []
    for each in found:
        if isinstance(each, Preference):
            good.append(each)
        elif broken == "refuse":
            raise each
        else:
            bad.append(str(each))
    if not good:
        raise UserError(f"preferences {data}: it holds none" + (f"; the first fault is: {bad[0]}" if bad else ""))
    return good, bad


def _of_file(path: Path) -> Iterator[Preference | UserError]:
    """Yield what each row says, or what is wrong with it."""
    rows = _grouped(_rows(path))
    for where, row in rows:
        if isinstance(row, UserError):
            yield row
            continue
        try:
            said = preference_of(row)
            if said is None:
                continue
            pictures = tuple(path.parent / each if isinstance(each, str) else each for each in said.pictures)
            for each in pictures:
                if isinstance(each, Path) and not path_of(each, where).is_file():
                    raise Unusable(f"no picture {shown(str(each))}")
            text = said.prompt or embedded_prompt(pictures[0])
            if not text:
                raise Unusable("it has no prompt, and none is embedded in the picture")
            prompt = Prompt(text, {"category": said.category} if said.category else {})
            more = said.votes, said.people, said.segments, said.active
            yield Preference(prompt, pictures, said.worth, where, None, *more)
        except Unusable as error:
            yield UserError(f"{where}: {error}")
        except UserError as error:
            yield error if str(error).startswith(where) else UserError(f"{where}: {error}")


def _rows(path: Path) -> Iterator[tuple[str, Row | UserError]]:
    what = f"preferences {path}"
    match path.suffix:
        case ".jsonl":
            for number, line in read_lines(path, what):
                where = f"{what}, line {number}"
                yield where, _object(line, where)
        case ".csv":
            yield from _table(text_of(path, what), what)
        case ".parquet":
            for number, row in enumerate(_parquet(path, what), 1):
                yield f"{what}, row {number}", row
        case ".db":
            raise UserError(f"{what}: votes as limner annotate keeps them; make rows of them by limner feedback export")
        case _:
            raise UserError(f"{what}: unknown suffix {path.suffix!r}; use .jsonl, .csv, .parquet or a folder")


def _table(text: str, what: str) -> Iterator[tuple[str, Row]]:
    """Yield the rows of a CSV text, each with the line that it ends in, for a cell may hold several."""
    table = csv.DictReader(io.StringIO(text, newline=""))
    try:
        for cells in table:
            row = {key.strip(): value.strip() for key, value in cells.items() if key is not None and value is not None}
            yield f"{what}, line {table.line_num}", row
    except csv.Error as error:
        raise UserError(f"{what}, line {table.line_num}: not CSV that can be read: {error}") from None


def _object(line: str, where: str) -> Row | UserError:
    try:
        return parse_object(line, where)
    except UserError as error:
        return error


def _parquet(path: Path, what: str) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise UserError(f"{what}: reading .parquet needs pyarrow: pip install limner[parquet]") from error
    try:
        for batch in ParquetFile(path).iter_batches(256):
            yield from batch.to_pylist()
    except (ArrowException, OSError) as error:
        raise UserError(f"{what}: not a Parquet file that can be read: {' '.join(str(error).split())}") from error


def _grouped(rows: Iterator[tuple[str, Row | UserError]]) -> Iterator[tuple[str, Row | UserError]]:
    """Join rows of single ranked pictures that follow one another and share a prompt: ImageRewardDB's."""

    def key(item: tuple[str, Row | UserError]) -> object:
        row = item[1]
        if isinstance(row, UserError) or not {"prompt_id", "rank"} <= row.keys():
            return object()
        return object() if isinstance(row["rank"], list | tuple) else str(row["prompt_id"])

    for _, items in groupby(rows, key):
        several = list(items)
        where, row = several[0]
        if len(several) > 1 and isinstance(row, Mapping):
            every = [each for _, each in several if isinstance(each, Mapping)]
            columns = {
                name: [each.get(name) for each in every] for name in ("rank", "image", "image_path") if name in row
            }
            row = dict(row) | columns
        yield where, row


def _folders(data: Path, worse: str | Path, masks: str | Path) -> tuple[Path, Path, Path | None]:
    """Return the folders of better and worse pictures, and of masks, if there are any."""

    def within(names: Sequence[str]) -> Path | None:
        return next((data / name for name in names if (data / name).is_dir()), None)

    better, other = (data, path_of(worse, "preferences")) if worse else (within(BETTER), within(WORSE))
    where = path_of(masks, "preferences") if masks else within(MASKS)
    if better is None or other is None:
        raise UserError(
            f"preferences {data}: neither {', '.join(INDEX)} nor two folders, chosen and rejected, are in it; name the "
            "folder of worse pictures with --source.worse"
        )
    for folder in (better, other, where):
        if folder is not None and not folder.is_dir():
            raise UserError(f"preferences: no folder {folder}")
    return better, other, where


def _of_folders(better: Path, worse: Path, masks: Path | None) -> Iterator[Preference | UserError]:
    """Yield the pairs of pictures with equal names; captions stand beside them, or are their names."""
    good, bad, masked = (_pictures(folder) if folder is not None else {} for folder in (better, worse, masks))
    for name in sorted(good.keys() | bad.keys()):
        where = f"preferences {better}, {name}"
        if name not in good or name not in bad:
            yield UserError(f"{where}: it is in {better if name in good else worse} only; a pair has equal names")
        elif masks is not None and name not in masked:
            yield UserError(f"{where}: no mask of that name in {masks}")
        else:
            text = caption((good[name], bad[name]), name)
            pair = Preference(Prompt(text), (good[name], bad[name]), (1.0, 0.0), where)
            yield replace(pair, mask=masked[name]) if masks is not None else pair


def _pictures(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES}


def caption(pictures: Sequence[Path], name: str) -> str:
    """Return what pictures of one name were asked for: what stands beside one, is written into one, or the name.

    Of a name, such as a_red_star_12, it is the words without the number at its end. Raises UserError for a caption, or
    a picture, that cannot be read.
    """
    return told_beside(pictures) or next(filter(None, map(embedded_prompt, pictures)), "") or _spoken(name)


def told_beside(pictures: Sequence[Path]) -> str:
    """Return what the first file of text beside one of them says, in one line; "" if there is none."""
    notes = (note for each in pictures if (note := each.with_suffix(".txt")).is_file())
    told = (" ".join(line for _, line in read_lines(note, f"caption {note}")) for note in notes)
    return next(filter(None, told), "")


def _spoken(name: str) -> str:
    """Return a file's name as a caption: words, without the number at its end."""
    words = re.sub(r"[\s_\-]+", " ", name).strip()
    return re.sub(r"[ (]*\d+\)?$", "", words) or words


def judged(preferences: Sequence[Preference]) -> Mapping[str, Any]:
    """Return how many preferences there are, and of which kind."""
    single = sum(len(each.pictures) == 1 for each in preferences)
    apart = sum(each.tells_apart for each in preferences)
    return {"pairs": apart, "single": single, "ties": len(preferences) - apart - single}
