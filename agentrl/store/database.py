"""Opens a run's database and names what went wrong with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import StaticPool

from agentrl.errors import ConfigError
from agentrl.store.errors import StoreError
from agentrl.store.tables import METADATA

FILE = "run.db"
DRIVERS = ("postgresql", "postgresql+psycopg")
BUSY_SECONDS = 30.0
ANY_NUMBER = 7_304_155
"""Of the lock under which one process at a time makes the tables of a shared database."""


def check_url(url: str) -> None:
    """Refuse a database that cannot be used; '' is the run's own file.

    Raises:
        ConfigError: It is no address of a PostgreSQL database, or one that holds a password.

    >>> check_url("postgresql://team@host/agentrl")
    """
    if not url:
        return
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError(f"store.url={url!r}: need postgresql://USER@HOST/DATABASE, or nothing") from None
    if parsed.drivername not in DRIVERS:
        raise ConfigError(
            f"store.url names {parsed.drivername!r}: need postgresql://USER@HOST/DATABASE, or nothing"
        )
    if parsed.password is not None or "password" in parsed.query:
        raise ConfigError(
            "store.url holds a password, which would stand in config.json: leave it out and set PGPASSWORD"
        )


def open_database(url: str, folder: Path, *, read_only: bool = False) -> Engine:
    """Connect; with '' to the SQLite file in `folder`. The tables are made where they are missing.

    With `read_only` nothing is made or changed, so that it works on whatever another process writes.

    Raises:
        StoreError: It cannot be opened.
    """
    place = shown(url, folder)
    try:
        engine = _postgres(url) if url else _sqlite(folder / FILE, read_only=read_only)
        with engine.begin() as connection:
            if read_only:
                return engine
            if url:
                connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": ANY_NUMBER})
            METADATA.create_all(connection)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise ConfigError(f"{place}: {error}; install it with: pip install 'agentrl[postgres]'") from error
    except DBAPIError as error:
        raise broken(error, place) from error
    return engine


def shown(url: str, folder: Path) -> str:
    """Name a database in messages."""
    return make_url(url).render_as_string(hide_password=True) if url else str(folder / FILE)


@contextlib.contextmanager
def named(place: str) -> Iterator[None]:
    """Turn what a database raises into one line.

    Raises:
        StoreError: It was raised by the database.
    """
    try:
        yield
    except DBAPIError as error:
        raise broken(error, place) from error


def broken(error: DBAPIError, place: str) -> StoreError:
    """Say what is wrong with a database, and what to do."""
    said = " ".join(str(error.orig).split())
    return StoreError(f"{place}: {said}", _remedy(said))


def _remedy(said: str) -> str:
    again = "then the same command goes on from the last committed step"
    if "full" in said or "disk I/O" in said or "No space" in said:
        return f"make room on the disk (or raise its quota), {again}"
    if "readonly" in said or "unable to open" in said:
        return f"make the folder writable, {again}"
    if "malformed" in said or "not a database" in said:
        return "put back a copy of the file, or start anew with --fresh"
    return f"see that the database can be reached and written, {again}"


def _sqlite(file: Path, *, read_only: bool) -> Engine:
    # One connection, which belongs to the one thread that writes.
    address = _to_read(file) if read_only else str(file)
    engine = create_engine(
        f"sqlite:///{address}",
        poolclass=StaticPool,
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
    )
    if read_only:
        return engine

    @event.listens_for(engine, "connect")
    def prepare(connection: object, _: object) -> None:
        cursor = connection.cursor()  # type: ignore[attr-defined]
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.close()

    return engine


def _to_read(file: Path) -> str:
    """Give the address under which a file is only read.

    SQLite writes beside it even so, to see what others write; while nobody has it open for that, it need not.
    """
    alone = not file.with_name(f"{file.name}-wal").exists()
    return f"file:{quote(str(file.absolute()))}?{'immutable=1' if alone else 'mode=ro'}&uri=true"


def _postgres(url: str) -> Engine:
    return create_engine(make_url(url).set(drivername="postgresql+psycopg"), pool_size=1, max_overflow=0)


def synchronous(connection: Connection, *, durable: bool) -> None:
    """Choose whether the next transaction reaches the disk before it counts; PostgreSQL always sees to it.

    A row that a power cut takes away is played again; one that a checkpoint counts on must not be.
    """
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        connection.commit()
