"""One run's rows: committed steps with their metrics, episodes, and results of unfinished phases."""

from __future__ import annotations

import contextlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    and_,
    bindparam,
    delete,
    func,
    insert,
    inspect,
    select,
)

from agentrl.codec import from_bytes, to_bytes
from agentrl.episode import Episode, Group
from agentrl.store.database import FILE, named, open_database, shown, synchronous
from agentrl.store.errors import StoreError
from agentrl.store.tables import EPISODES, JOURNAL, METADATA, METRICS, STEPS, TASKS
from agentrl.task import Task

Result = TypeVar("Result")
TRAIN = "train"
"""The phase whose episodes are trained on; a step's row stands behind all that are counted."""
WAITING = 64
"""Writes that may wait before a caller does."""


def same(table: Table, *names: str) -> ColumnElement[bool]:
    """Give the condition that these columns have the values of the parameters `at_NAME`."""
    found: ColumnElement[bool] = and_(*(table.c[name] == bindparam(f"at_{name}") for name in names))
    return found


CLEAR_WORK = delete(EPISODES).where(same(EPISODES, "run", "phase", "step", "work"))
CLEAR = {
    TASKS: delete(TASKS).where(same(TASKS, "run", "id")),
    JOURNAL: delete(JOURNAL).where(same(JOURNAL, "run", "name")),
}
ADD = {table: insert(table) for table in (EPISODES, TASKS, JOURNAL)}
"""Made once: SQLAlchemy takes longer over a statement than the database over a row."""


class Store:
    """Rows of one run. All of them are read and written by one thread, in the order of the calls.

    `record` and `keep` return at once; what went wrong there is raised by the next call.

    Raises:
        StoreError: The database cannot be opened, read or written.
    """

    def __init__(self, folder: Path, *, run: str, url: str = "", read_only: bool = False) -> None:
        self.run, self._place = run, shown(url, folder)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="agentrl-store")
        self._pending: list[Future[None]] = []
        self._queue: deque[Callable[[Connection], None]] = deque()
        self._draining = False
        self._lost: BaseException | None = None
        self._closed = False
        try:
            opening = self._thread.submit(open_database, url, folder, read_only=read_only)
            self._engine = opening.result()
        except BaseException:
            self._thread.shutdown()
            raise

    # ------------------------------------------------------------------ steps

    def commit(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Write a step's row and numbers; they and all rows before are on the disk when it returns."""
        rows = [
            {"run": self.run, "step": step, "name": name, "value": json.dumps(value)}
            for name, value in metrics.items()
        ]

        def write(connection: Connection) -> None:
            connection.execute(insert(STEPS), {"run": self.run, "step": step, "ended": time.time()})
            connection.execute(insert(METRICS), rows)

        self._wait()
        self._refuse_more()
        self._submit(write, durable=True).result()

    @property
    def has_tables(self) -> bool:
        """Whether anything was ever written into the database."""
        return self._read(lambda c: inspect(c).has_table(METRICS.name))

    def metrics(self) -> list[dict[str, Any]]:
        """Give the numbers of every committed step, in order."""
        query = select(METRICS.c.step, METRICS.c.name, METRICS.c.value).where(METRICS.c.run == self.run)
        found: dict[int, dict[str, Any]] = {}
        for step, name, value in self._read(lambda c: c.execute(query).all()):
            found.setdefault(step, {})[name] = json.loads(value)
        return [found[step] for step in sorted(found)]

    @property
    def last_step(self) -> int:
        """The last committed step; 0 where there is none."""
        query = select(func.max(STEPS.c.step)).where(STEPS.c.run == self.run)
        return int(self._read(lambda c: c.execute(query).scalar()) or 0)

    def rewind(self, step: int) -> None:
        """Forget all that lies behind a step; only the episodes that its weights have played are kept.

        Raises:
            StoreError: It was never committed.
        """
        count = select(func.count()).where(STEPS.c.run == self.run, STEPS.c.step <= step)

        def write(connection: Connection) -> None:
            found = connection.execute(count).scalar_one()
            if found != step:
                raise StoreError(
                    f"{self._place} holds {found} of the {step} steps that the checkpoint stands on: "
                    "put back the file that belongs to it, or start anew with --fresh"
                )
            for table in (STEPS, METRICS):
                connection.execute(delete(table).where(table.c.run == self.run, table.c.step > step))
            connection.execute(delete(EPISODES).where(self._phase(TRAIN), EPISODES.c.step > step + 1))

        self._wait()
        self._submit(write, durable=True).result()

    # --------------------------------------------------------------- episodes

    def record(self, group: Group, task: Task, *, phase: str, step: int, work: str) -> None:
        """Write the episodes of a finished group and their task, soon."""

        def write(connection: Connection) -> None:
            common = {"run": self.run, "phase": phase, "step": step, "work": work}
            connection.execute(CLEAR_WORK, at(common))
            rows = [common | episode_row(e, i) for i, e in enumerate(group.episodes)]
            if rows:
                connection.execute(ADD[EPISODES], rows)
            self._replace(connection, TASKS, {"id": plain(task.id)}, to_bytes(task))

        self._later(write)

    def groups(self, *, phase: str, step: int) -> dict[str, tuple[Episode, ...]]:
        """Give the episodes of the groups that are written down, by the digest of their work."""
        query = (
            select(EPISODES.c.work, EPISODES.c.data)
            .where(self._phase(phase), EPISODES.c.step == step)
            .order_by(EPISODES.c.work, EPISODES.c.place)
        )
        found: dict[str, list[Episode]] = {}
        for work, data in self._read(lambda c: c.execute(query).all()):
            found.setdefault(work, []).append(from_bytes(data))
        return {work: tuple(episodes) for work, episodes in found.items()}

    def episodes(self, name: str) -> dict[str, Episode]:
        """Give the episodes of this id by the phase that they were played in."""
        query = select(EPISODES.c.phase, EPISODES.c.data)
        query = query.where(EPISODES.c.run == self.run, EPISODES.c.id == plain(name))
        return {phase: from_bytes(data) for phase, data in self._read(lambda c: c.execute(query).all())}

    def task(self, name: str) -> Task:
        """Give the task of this id, which an episode names."""
        query = select(TASKS.c.data).where(TASKS.c.run == self.run, TASKS.c.id == plain(name))
        task: Task = from_bytes(self._read(lambda c: c.execute(query).scalar_one()))
        return task

    def ids(self, phase: str | None = None) -> list[str]:
        """Give the ids of all episodes, or of those of a phase, in the order of the steps."""
        mine = EPISODES.c.run == self.run if phase is None else self._phase(phase)
        query = select(EPISODES.c.id).where(mine)
        query = query.order_by(EPISODES.c.step, EPISODES.c.phase, EPISODES.c.id)
        return [row[0] for row in self._read(lambda c: c.execute(query).all())]

    # ---------------------------------------------------------------- journal

    def keep(self, name: str, value: Any) -> None:
        """Write down a result under a name, soon; see `agentrl.codec` for what may be in it."""
        self._later(lambda connection: self._replace(connection, JOURNAL, {"name": name}, to_bytes(value)))

    def kept(self, name: str) -> Any:
        """Give a result that was written down; None where there is none."""
        query = select(JOURNAL.c.data).where(JOURNAL.c.run == self.run, JOURNAL.c.name == name)
        data = self._read(lambda c: c.execute(query).scalar())
        return None if data is None else from_bytes(data)

    def forget(self, prefix: str) -> None:
        """Remove the results whose names begin so."""
        mine = (JOURNAL.c.run == self.run, JOURNAL.c.name.startswith(prefix, autoescape=True))

        def write(connection: Connection) -> None:
            connection.execute(delete(JOURNAL).where(*mine))

        self._later(write)

    # ------------------------------------------------------------------- life

    def erase(self) -> None:
        """Remove everything of this run."""

        def write(connection: Connection) -> None:
            for table in METADATA.sorted_tables:
                connection.execute(delete(table).where(table.c.run == self.run))

        self._wait()
        self._submit(write, durable=True).result()

    def close(self) -> None:
        """Finish writing and close; may be called twice."""
        if self._closed:
            return
        self._closed = True
        try:
            self._wait()
        finally:
            self._thread.submit(self._engine.dispose).result()
            self._thread.shutdown()

    def _phase(self, phase: str) -> ColumnElement[bool]:
        return (EPISODES.c.run == self.run) & (EPISODES.c.phase == phase)

    def _replace(self, connection: Connection, table: Table, key: Mapping[str, str], data: bytes) -> None:
        """Write one row in the place of the one that has its key."""
        row = {"run": self.run, **key}
        connection.execute(CLEAR[table], at(row))
        connection.execute(ADD[table], row | {"data": data})

    def _later(self, write: Callable[[Connection], None]) -> None:
        while self._pending and (self._pending[0].done() or len(self._queue) >= WAITING):
            self._pending.pop(0).result()
        self._refuse_more()
        self._queue.append(write)
        if not self._draining:
            self._draining = True
            self._pending.append(self._thread.submit(self._drain))

    def _drain(self) -> None:
        """Do the writes that wait, in one transaction: most of its cost is its beginning and end."""
        self._draining = False  # first: a write that comes from here on is taken along, or drained anew
        try:
            self._transact(self._write_queue)
        except BaseException as error:
            self._lost = error
            raise

    def _write_queue(self, connection: Connection) -> None:
        while self._queue:
            self._queue.popleft()(connection)

    def _wait(self) -> None:
        while self._pending:
            self._pending.pop(0).result()

    def _refuse_more(self) -> None:
        """Raise again what made rows get lost; reading goes on."""
        if self._lost is not None:
            raise self._lost

    def _read(self, read: Callable[[Connection], Result]) -> Result:
        self._wait()
        return self._submit(read).result()

    def _submit(self, work: Callable[[Connection], Result], *, durable: bool = False) -> Future[Result]:
        return self._thread.submit(self._transact, work, durable=durable)

    def _transact(self, work: Callable[[Connection], Result], *, durable: bool = False) -> Result:
        with named(self._place), self._engine.connect() as connection:
            if durable:
                synchronous(connection, durable=True)
            with connection.begin():
                result = work(connection)
            if durable:
                synchronous(connection, durable=False)
            return result


def open_store(folder: Path, config: Mapping[str, Any]) -> Store:
    """Open the rows of a run by its configuration.

    Raises:
        StoreError: They cannot be opened.
    """
    return Store(folder, run=config["id"], url=config.get("store", {}).get("url", ""))


@contextlib.contextmanager
def rows_of(folder: Path, config: Mapping[str, Any]) -> Iterator[Store | None]:
    """Open the rows of a run for reading alone, also where nothing can be written; None where there are none.

    Raises:
        StoreError: They cannot be read.
    """
    url = config.get("store", {}).get("url", "")
    if not url and not (folder / FILE).is_file():
        yield None
        return
    store = Store(folder, run=config["id"], url=url, read_only=True)
    try:
        yield store if store.has_tables else None
    finally:
        store.close()


def episode_row(episode: Episode, place: int) -> dict[str, Any]:
    """Give an episode's columns: the whole of it, and what one may ask a database for."""
    return {
        "place": place,
        "id": plain(episode.id),
        "task": plain(episode.task_id),
        "reward": episode.reward,
        "correct": episode.correct,
        "finish": episode.finish,
        "failure": None if episode.failure is None else episode.failure.kind,
        "turns": len(episode.turns),
        "tokens": sum(len(c) for c in episode.contexts),
        "data": to_bytes(episode),
    }


def at(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give the parameters that `same` compares with."""
    return {f"at_{name}": value for name, value in values.items()}


def plain(text: str) -> str:
    r"""Write a name as every database takes it.

    >>> plain("a\0\ud800é")
    'a\\0\\ud800é'
    """
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
