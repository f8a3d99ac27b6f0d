"""The plain strategy: every attempt of a group is an episode of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from agentrl.environment import Environment
from agentrl.episode import Episode, Group
from agentrl.errors import ConfigError
from agentrl.rollout.attempt import attempt_again
from agentrl.rollout.collecting import as_they_finish
from agentrl.rollout.protocol import WorkItem
from agentrl.rollout.running import Running, Table
from agentrl.task import derive_seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Independent:
    """Plays each attempt in its own asyncio task; nothing waits for anything but its own group's end."""

    table: Table
    new_env: Callable[[], Environment]
    max_episodes: int = 512
    """Episodes that run at once; further ones wait their turn."""
    retries: int = 1
    """How often an episode is attempted again that failed for a reason outside of its actions."""

    def __post_init__(self) -> None:
        if self.retries < 0:
            raise ConfigError(f"retries={self.retries}: need 0 or more")
        if self.max_episodes < 1:
            raise ConfigError(f"max_episodes={self.max_episodes}: need 1 or more")

    async def collect(self, work: Sequence[WorkItem]) -> AsyncIterator[Group]:
        """Give each group as soon as its last episode has ended; closing it cancels the rest."""
        places = asyncio.Semaphore(self.max_episodes)
        async for group in as_they_finish(work, lambda item: self._group(item, places), places):
            yield group

    async def _group(self, item: WorkItem, places: asyncio.Semaphore) -> Group:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._one(item, index, places)) for index in range(item.size)]
        return Group(id=item.group_id, episodes=tuple(t.result() for t in tasks))

    async def _one(self, item: WorkItem, index: int, places: asyncio.Semaphore) -> Episode:
        async with places:
            return await attempt_again(
                lambda: self._begin(item, index),
                self.retries,
                task=item.task,
                id=episode_id(item, index),
                group_id=item.group_id,
            )

    def _begin(self, item: WorkItem, index: int) -> Running:
        return Running(
            table=self.table,
            env=self.new_env(),
            task=item.task,
            id=episode_id(item, index),
            group_id=item.group_id,
            seed=derive_seed(item.seed, index),
            sampling=item.sampling,
        )


def episode_id(item: WorkItem, index: int) -> str:
    """Name an attempt of a group.

    >>> from agentrl.task import Task
    >>> task = Task(id="t", split="train", level=0, seed=1)
    >>> episode_id(WorkItem(task=task, group_id="0-2-t", size=8, seed=1), 3)
    '0-2-t/3'
    """
    return f"{item.group_id}/{index}"
