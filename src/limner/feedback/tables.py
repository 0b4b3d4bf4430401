"""Where what people say is kept: five tables, of which events are only ever added to."""

from __future__ import annotations

from typing import Any

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
)
from sqlalchemy.exc import SQLAlchemyError

from limner.core.errors import UserError

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


def opened(url: str) -> Engine:
    """Return the database at a URL (`sqlite:///votes.db`, `postgresql+psycopg://...`), its tables made if need be.

    SQLite writes ahead and to the disk: what a commit acknowledged outlives a kill and a loss of power. Raises
    UserError if it cannot be opened.
    """
    try:
        engine = create_engine(url)
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _durable)
        metadata.create_all(engine)
    except (SQLAlchemyError, ImportError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"the votes at {url.split('@')[-1]!r} cannot be opened: {reason}") from error
    return engine


def _durable(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
