"""Reads a run's folder, also while it trains: nothing is locked and nothing is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, inspect, select

from agentrl.codec import from_bytes
from agentrl.diagnose.evidence import Attempt, Evidence, Play
from agentrl.ending import Ending
from agentrl.episode import Episode
from agentrl.errors import ConfigError
from agentrl.store.database import FILE, named, open_database, shown
from agentrl.store.inventory import RunInfo
from agentrl.store.store import TRAIN
from agentrl.store.tables import EPISODES, METRICS

BEFORE, MEASURED = "before-sampled", 64
WHOLE = 800
"""Episodes that are read whole, about: enough for shares to within a few hundredths, in a second or two."""


def read_evidence(run: RunInfo) -> Evidence:
    """Read what a run has written down.

    Raises:
        ConfigError: No step is finished yet, or its rows cannot be read.
    """
    ending = Ending.read(run.path)
    url = run.config.get("store", {}).get("url", "")
    found: Evidence | None = None
    if url or (run.path / FILE).is_file():
        engine = open_database(url, run.path, read_only=True)
        try:
            with named(shown(url, run.path)), engine.connect() as connection:
                if inspect(connection).has_table(METRICS.name):
                    found = Rows(connection, run.config["id"]).evidence(run.config, ending)
        finally:
            engine.dispose()
    if found is None or not (found.steps or ending):
        raise ConfigError(f"{run.path} has no finished step yet: there is nothing to diagnose ({run.state})")
    return found


class Rows:
    """One run's rows in a database."""

    def __init__(self, connection: Connection, run: str) -> None:
        self.connection, self.run = connection, run

    def evidence(self, config: dict[str, Any], ending: Ending | None) -> Evidence:
        """Gather everything."""
        steps = self.steps()
        last = max((s["step"] for s in steps), default=0) + (ending is not None)
        attempts = self.attempts(last)
        return Evidence(
            config=config,
            steps=steps,
            attempts=attempts,
            plays=self.plays(attempts),
            measured=self.measured(),
            ending=ending,
        )

    def steps(self) -> list[dict[str, Any]]:
        """Give the metrics of the committed steps."""
        query = select(METRICS.c.step, METRICS.c.name, METRICS.c.value).where(METRICS.c.run == self.run)
        found: dict[int, dict[str, Any]] = {}
        for step, name, value in self.connection.execute(query):
            found.setdefault(step, {})[name] = json.loads(value)
        return [found[step] for step in sorted(found)]

    def attempts(self, last: int) -> list[Attempt]:
        """Give the episodes of training up to a step, in order."""
        c = EPISODES.c
        query = (
            select(c.step, c.work, c.id, c.reward, c.correct, c.finish, c.failure, c.turns, c.tokens)
            .where(c.run == self.run, c.phase == TRAIN, c.step <= last)
            .order_by(c.step, c.work, c.place)
        )
        names = ("step", "group", "id", "reward", "correct", "finish", "failure", "turns", "tokens")
        rows = (dict(zip(names, row, strict=True)) for row in self.connection.execute(query))
        return [Attempt(**row | {"reward": row["reward"] or 0.0}) for row in rows]

    def plays(self, attempts: Sequence[Attempt]) -> list[Play]:
        """Give whole groups, evenly spread."""
        groups = list(dict.fromkeys((a.step, a.group) for a in attempts))
        wanted = max(1, WHOLE * len(groups) // max(len(attempts), 1))
        if len(groups) > wanted:
            groups = [groups[i * len(groups) // wanted] for i in range(wanted)]
        return [Play(step=step, episodes=self._group(step, group)) for step, group in groups]

    def measured(self) -> list[Episode]:
        """Give some episodes of the measurement before training."""
        c = EPISODES.c
        query = select(c.data).where(c.run == self.run, c.phase == BEFORE).order_by(c.work).limit(MEASURED)
        return [from_bytes(data) for (data,) in self.connection.execute(query)]

    def _group(self, step: int, group: str) -> tuple[Episode, ...]:
        c = EPISODES.c
        same = (c.run == self.run, c.phase == TRAIN, c.step == step, c.work == group)
        query = select(c.data).where(*same).order_by(c.place)
        return tuple(from_bytes(data) for (data,) in self.connection.execute(query))
