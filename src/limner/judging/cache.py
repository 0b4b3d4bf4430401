"""What a judge said before is not asked again: answers on disk, by content."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from limner.core.errors import UserError
from limner.core.media import Media
from limner.core.protocols import Judge
from limner.core.tree import leaves, select, tree_map
from limner.core.types import Prompt, RewardOutput, RewardSpec
from limner.judging.rows import Row, from_rows, to_rows
from limner.judging.wire import canonical

FILE = "rewards.sqlite"
_AT_ONCE = 500
"""Keys in one query; SQLite takes at least 999 parameters."""


@dataclass(frozen=True)
class Cached:
    """A judge with its answers kept in `folder`/rewards.sqlite.

    Only for one that says the same of a sample whenever asked and whatever stands beside it in the batch:
    `RewardSpec.deterministic`. A sample is known by `keys`; `name` stands beside its answer for whoever looks in. What
    the judge could not judge is not kept, so it is asked again; nothing is ever deleted, and gradients are never kept.
    Several processes and threads may share a folder. Raises UserError if the file cannot be read or written.
    """

    name: str
    judge: Judge
    folder: Path
    identity: str

    @property
    def spec(self) -> RewardSpec:
        """The judge's own."""
        return self.judge.spec

    def __call__(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        """Return what is known, and ask the judge about the rest."""
        names, file = keys(media, prompts, self.identity), self.folder / FILE
        with _open(file) as database:
            known = _read(database, names)
        new = [i for i, key in enumerate(names) if key not in known]
        if new:
            output = self.judge(select(media, torch.tensor(new)), [prompts[i] for i in new])
            fresh = {names[i]: row for i, row in zip(new, to_rows(output), strict=True)}
            with _open(file) as database:
                kept = [(key, self.name, json.dumps(row)) for key, row in fresh.items() if row["ok"]]
                database.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?, ?)", kept)
            known |= fresh
        return from_rows([known[key] for key in names])

    def differentiable(self, media: Media, prompts: Sequence[Prompt]) -> RewardOutput:
        """Ask the judge."""
        return self.judge.differentiable(media, prompts)


def keys(media: Media, prompts: Sequence[Prompt], identity: str) -> list[bytes]:
    """Return what names each sample: BLAKE2b of identity, prompt (text and meta), and media as a judge sees them.

    Media count with their kind, the shape, dtype and bytes of each tensor, and whatever else they hold. A file that
    `meta` names as reference counts with what is in it. Each part is preceded by its length. Raises UserError for a
    `meta` that JSON cannot hold.
    """
    shown = tree_map(Tensor.cpu, vars(media.rounded()))
    form = repr((type(media).__name__, tree_map(lambda leaf: f"{leaf.dtype}{tuple(leaf.shape[1:])}", shown)))
    tensors = [leaf.detach().contiguous() for leaf in leaves(shown)]
    places = [prompt.reference for prompt in prompts]
    held = {place: place.read_bytes() for place in places if place and place.is_file()}
    found = []
    for i, prompt in enumerate(prompts):
        parts = [identity.encode(), canonical([prompt.text, dict(prompt.meta)]).encode(), form.encode()]
        parts += [tensor[i].flatten().view(torch.uint8).numpy().tobytes() for tensor in tensors]
        parts += [held[place]] if (place := places[i]) in held else []
        digest = hashlib.blake2b(digest_size=32)
        for part in parts:
            digest.update(len(part).to_bytes(8, "little") + part)
        found.append(digest.digest())
    return found


@contextlib.contextmanager
def _open(file: Path) -> Iterator[sqlite3.Connection]:
    """Give the database, made if need be; what was done is written if nothing was raised."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(file, timeout=60.0)) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute(
                "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, name TEXT, answer TEXT) WITHOUT ROWID"
            )
            with database:
                yield database
    except (sqlite3.Error, OSError) as error:
        raise UserError(f"reward cache {file}: {error}; delete the file, or name another folder") from error


def _read(database: sqlite3.Connection, names: Sequence[bytes]) -> dict[bytes, Row]:
    found: dict[bytes, Row] = {}
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        marks = ", ".join("?" * len(some))
        rows = database.execute(f"SELECT key, answer FROM answers WHERE key IN ({marks})", some)
        found |= {key: json.loads(answer) for key, answer in rows}
    return found
