"""The tables of a run's database; several runs may share one, so every row names its run."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

METADATA = MetaData()

STEPS = Table(
    "steps",
    METADATA,
    Column("run", String(32), nullable=False),
    Column("step", Integer, nullable=False),
    Column("ended", Float, nullable=False),
    PrimaryKeyConstraint("run", "step"),
)
"""One row for each committed step; `ended` in seconds since 1970."""

METRICS = Table(
    "metrics",
    METADATA,
    Column("run", String(32), nullable=False),
    Column("step", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("value", Text, nullable=False),
    PrimaryKeyConstraint("run", "step", "name"),
)
"""The numbers of each step; `value` is JSON, so that every one of them comes back as it was."""

EPISODES = Table(
    "episodes",
    METADATA,
    Column("run", String(32), nullable=False),
    Column("phase", String(32), nullable=False),
    Column("step", Integer, nullable=False),
    Column("work", String(32), nullable=False),
    Column("place", Integer, nullable=False),
    Column("id", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("reward", Float),
    Column("correct", Boolean),
    Column("finish", String(16), nullable=False),
    Column("failure", String(16)),
    Column("turns", Integer, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
    PrimaryKeyConstraint("run", "phase", "step", "work", "place"),
    Index("episodes_by_id", "run", "id"),
)
"""Every episode: `work` is the digest of what was asked for, `data` the whole episode (`agentrl.codec`)."""

TASKS = Table(
    "tasks",
    METADATA,
    Column("run", String(32), nullable=False),
    Column("id", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
    PrimaryKeyConstraint("run", "id"),
)
"""The tasks of the episodes, so that any of them can be replayed."""

JOURNAL = Table(
    "journal",
    METADATA,
    Column("run", String(32), nullable=False),
    Column("name", String(96), nullable=False),
    Column("data", LargeBinary, nullable=False),
    PrimaryKeyConstraint("run", "name"),
)
"""Results of a phase that is not over, so that a resumed run does not play them again."""
