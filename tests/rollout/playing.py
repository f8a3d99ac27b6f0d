"""Episodes whose turns are scripted, for tests of what happens around them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from agentrl.adapter import Adapter
from agentrl.dialect.tiny import TinyDialect
from agentrl.engine.protocol import Engine
from agentrl.engine.scripted import ScriptedEngine
from agentrl.episode import Episode
from agentrl.message import Action, answer, call
from agentrl.rollout.independent import Independent
from agentrl.rollout.protocol import Limits, WorkItem
from agentrl.rollout.running import Table
from agentrl.rollout.watchdog import Watchdog
from agentrl.task import Task
from agentrl.toolenv import ToolEnv
from agentrl.toolkit import tool
from tests.dialect.tokenizers import tiny_style

DIALECT = TinyDialect(tiny_style())


class Asks(ToolEnv):
    """One tool, one answer; subclasses say what the tool does."""

    def task(self, rng: np.random.Generator) -> str:
        return "go"

    def work(self) -> str:
        """What the tool does."""
        return "ok"

    @tool
    def use(self, item: str) -> str:
        """Use it."""
        return self.work()

    def reward(self, answer: str) -> float:
        return 1.0


def asks_once() -> ScriptedEngine:
    """A policy that calls the tool and then answers."""

    def turn(ids: tuple[int, ...], seed: int) -> list[int]:
        said: Action = call("use", item="x") if "ok" not in DIALECT.decode(ids) else answer("done")
        return list(DIALECT.render(said, Asks().tools))

    return ScriptedEngine(turn)


def strategy(
    new: Callable[[], Any],
    *,
    engine: Engine | None = None,
    turn_seconds: float = 30.0,
    report: Callable[[str], None] | None = None,
    **settings: Any,
) -> Independent:
    table = Table(
        engine=engine or asks_once(),
        dialect=DIALECT,
        limits=Limits(turn_seconds=turn_seconds),
        watchdog=Watchdog(report or (lambda line: None)),
    )
    return Independent(table=table, new_env=lambda: Adapter(new(), new), **settings)


async def collect(chosen: Independent, count: int, *, size: int = 1) -> list[Episode]:
    work = [
        WorkItem(task=Task(id=f"t{i}", split="train", level=0, seed=i), group_id=f"g{i}", size=size, seed=i)
        for i in range(count)
    ]
    groups = [group async for group in chosen.collect(work)]
    return sorted((e for g in groups for e in g.episodes), key=lambda e: e.id)


def play(new: Callable[[], Any], count: int = 1, **settings: Any) -> list[Episode]:
    return asyncio.run(collect(strategy(new, **settings), count))


def seen(episodes: Sequence[Episode]) -> list[tuple[str, str]]:
    """Give class and cause of every failure, those that were tried again included."""
    return sorted((f.kind, f.caused_by) for e in episodes for f in e.failures)
