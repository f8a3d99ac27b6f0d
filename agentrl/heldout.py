"""How many tasks an environment has, and whether those that measure are really held out of training."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agentrl.adapter import Adapter
from agentrl.errors import InfrastructureError
from agentrl.registry import Worker
from agentrl.task import Task, TaskSource
from agentrl.taskspace import fingerprint
from agentrl.toolenv import ToolEnv

LARGE = 2e4
"""A task space of this size is not worth a word: none of its tasks is met often."""
DRAWS = 256
SECONDS = 0.3
"""Time for looking at the tasks of a split; environments with slow starts are looked at less closely."""
PATIENCE = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """What a look at the tasks of training and of measuring found."""

    measured: int
    """Different tasks of measuring that were looked at."""
    trained: int
    """So many of them were met among tasks of training."""
    size: float
    """Estimate of how many different tasks training draws from; inf where no two were equal."""

    @property
    def share(self) -> float:
        """The part of the tasks of measuring that training draws too, as far as was seen."""
        return self.trained / self.measured if self.measured else 0.0

    @property
    def notice(self) -> str:
        """Say in one line what a reader of results must know; '' where the tasks are held out.

        >>> HeldOut(measured=31, trained=31, size=31.0).notice[:43]
        '31 of 31 test tasks are trained on as well:'
        """
        if not self.trained:
            return ""
        few = f"there are about {self.size:.0f} different tasks" if self.size < LARGE else "the splits meet"
        which = f"{self.trained} of {self.measured} test tasks are trained on as well"
        return f"{which}: {few}, so success here says nothing about tasks never seen"


def take_once(source: TaskSource, count: int) -> list[Task]:
    """Give the next `count` tasks, or all that there are: counted twice, one would make intervals narrow."""
    return source.take(min(count, len(source)))


def shortage(name: str, tasks: Sequence[Task], wanted: int) -> str:
    """Say that an environment has fewer tasks than asked for; '' where it has enough."""
    if len(tasks) == wanted:
        return ""
    return f"{name} has {len(tasks)} {tasks[0].split} tasks, not {wanted}: each is attempted once"


def estimated_size(drawn: int, distinct: int) -> float:
    """Estimate how many tasks there are from how many of those drawn at random differ; inf where all do.

    >>> round(estimated_size(64, 60)), round(estimated_size(1000, 31)), estimated_size(64, 64)
    (483, 31, inf)
    """
    if distinct >= drawn:
        return math.inf
    low, high = float(distinct), float(drawn) ** 2
    for _ in range(100):
        size = (low + high) / 2
        expected = -size * math.expm1(drawn * math.log1p(-1 / size)) if size > 1 else 1.0
        low, high = (size, high) if expected < distinct else (low, size)
    return low


async def compare_splits(worker: Worker, train: TaskSource, test: Sequence[Task]) -> HeldOut:
    """Start tasks of training and of measuring, as far as time allows, and see which are the same.

    A `ToolEnv` keeps its splits apart by itself unless its tasks are few; only then is there a need to look.
    An environment that fails or hangs here is left to the rollout, which names what is wrong.
    """
    raw = worker.raw()
    env, trained, measured = Adapter(raw, worker.raw), list[int](), list[int]()
    with contextlib.suppress(InfrastructureError, TimeoutError):
        async with asyncio.timeout(PATIENCE):
            trained.append(await _started(env, raw, train.at(0)))
            if not isinstance(raw, ToolEnv) or not await raw.holds_out():
                trained += await _some(env, raw, (train.at(i) for i in range(1, DRAWS)))
                measured = await _some(env, raw, test[:DRAWS])
    with contextlib.suppress(InfrastructureError):
        await env.close()
    size = estimated_size(len(trained), len(set(trained)))
    return HeldOut(measured=len(set(measured)), trained=len(set(measured) & set(trained)), size=size)


async def _some(env: Adapter, raw: object, tasks: Iterable[Task]) -> list[int]:
    end, found = time.monotonic() + SECONDS, list[int]()
    for task in tasks:
        found.append(await _started(env, raw, task))
        if time.monotonic() > end:
            break
    return found


async def _started(env: Adapter, raw: object, task: Task) -> int:
    shown = await env.start(task)
    return fingerprint(raw, shown.text)
