"""Where what people say is kept: five tables, of which events are only ever added to."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from filelock import FileLock, Timeout
from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    func,
    inspect,
    select,
)
from sqlalchemy.exc import SQLAlchemyError

from limner.core.errors import UserError

LOCK = int.from_bytes(b"limner")
"""The number of our advisory lock in a database of PostgreSQL."""
metadata = MetaData()
NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts up by itself in columns of its own integer type only."""

item = Table(
    "item",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("path", Text, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("facts", Text, nullable=False),
)
task = Table(
    "task",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("kind", String(8), nullable=False),
    Column("prompt", Text, nullable=False),
    Column("items", Text, nullable=False),
    Column("better", Integer),
)
annotator = Table(
    "annotator",
    metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    Column("pseudonym", String(64), nullable=False, unique=True),
    Column("token_hash", String(64), nullable=False, unique=True),
)
assignment = Table(
    "assignment",
    metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    Column("task", ForeignKey("task.id"), nullable=False),
    Column("annotator", ForeignKey("annotator.id"), nullable=False),
    Column("source", String(8), nullable=False),
    Column("propensity", Float, nullable=False),
    Column("order", Text, nullable=False),
    Column("leased_until", Float, nullable=False),
    # nobody is asked the same twice, but to see whether the answer is the same
    UniqueConstraint("task", "annotator", "source"),
)
events = Table(
    "event",
    metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    Column("time", Float, nullable=False),
    Column("assignment", ForeignKey("assignment.id"), nullable=False),
    Column("annotator", ForeignKey("annotator.id"), nullable=False),
    Column("type", String(8), nullable=False),
    Column("supersedes", ForeignKey("event.id"), unique=True),
    Column("payload", Text, nullable=False),
    Column("latency_ms", Integer, nullable=False),
    Column("dwell_ms", Integer, nullable=False),
    Column("viewport", String(32), nullable=False),
    Column("key", String(64), nullable=False, unique=True),
)
Index("event_assignment", events.c.assignment)
Index("assignment_annotator", assignment.c.annotator)


def opened(url: str, new: bool = True) -> Engine:
    """Return the database at a URL (`sqlite:///votes.db`, `postgresql+psycopg://...`).

    `new`: its tables are made if need be. SQLite writes ahead and to the disk: what a commit acknowledged outlives a
    kill and a loss of power. Raises UserError if it cannot be opened, or holds no votes and is not to be `new`.
    """
    try:
        engine = create_engine(url)
        if not new and not _is_there(engine):
            raise UserError(f"the votes at {url.split('@')[-1]!r}: no database of limner annotate is there")
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _durable)
        metadata.create_all(engine)
    except (SQLAlchemyError, sqlite3.Error, ImportError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"the votes at {url.split('@')[-1]!r} cannot be opened: {reason}") from error
    return engine


@contextmanager
def alone(engine: Engine) -> Iterator[None]:
    """Keep every other process from asking people from a database; who only reads it is not kept from it.

    The lock ends with its process, however that ends: of SQLite it is on a file beside the database, of PostgreSQL an
    advisory lock of a session. Raises UserError if another process has it, and for other kinds of database.
    """
    name = engine.url.render_as_string().split("@")[-1]
    taken = f"the votes at {name!r}: another limner annotate asks from there; end it, or give another --database"
    if engine.dialect.name == "sqlite":
        place = Path(engine.url.database or "").resolve()
        lock = FileLock(place.with_name(f".{place.name}.lock"))
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise UserError(taken) from error
        except OSError as error:
            raise UserError(f"the votes at {name!r} cannot be locked: {error.strerror}") from error
        try:
            yield
        finally:
            lock.release()
    elif engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            if not connection.execute(select(func.pg_try_advisory_lock(LOCK))).scalar_one():
                raise UserError(taken)
            try:
                yield
            finally:
                connection.execute(select(func.pg_advisory_unlock(LOCK)))
    else:
        raise UserError(f"the votes at {name!r}: people are asked from SQLite or PostgreSQL, and this is neither")


def _is_there(engine: Engine) -> bool:
    """Tell whether a database has our tables; it stays as it is, and a file is not made."""
    if engine.dialect.name != "sqlite":
        return inspect(engine).has_table(events.name)
    place = Path(engine.url.database or "")
    if not place.is_file():
        return False
    with closing(sqlite3.connect(f"file:{quote(str(place.resolve()))}?mode=ro", uri=True)) as connection:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return (events.name,) in found


def _durable(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
