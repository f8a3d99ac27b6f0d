"""What strategies share: groups run side by side, and come as they finish."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from agentrl.episode import Group
from agentrl.rollout.protocol import WorkItem


async def as_they_finish(
    work: Sequence[WorkItem], play: Callable[[WorkItem], Awaitable[Group]], places: asyncio.Semaphore
) -> AsyncIterator[Group]:
    """Play every item in a task of its own and give each group when it is done; closing cancels the rest.

    Groups begin in order, each when an episode's place is free, and what has begun goes on before the next
    one does: the first tools work while the last environments are still being made.
    """
    tasks: set[asyncio.Task[Group]] = set()
    done: asyncio.Queue[asyncio.Task[Group]] = asyncio.Queue()

    async def alone(item: WorkItem) -> Group:
        try:
            return await play(item)
        except BaseExceptionGroup as errors:  # a group of tasks wraps the one error that ended it
            raise errors.exceptions[0] from None

    async def begin() -> None:
        for item in work:
            async with places:
                pass
            task = asyncio.create_task(alone(item))
            tasks.add(task)
            task.add_done_callback(done.put_nowait)
            await asyncio.sleep(0)

    beginning = asyncio.create_task(begin())
    try:
        for _ in work:
            finished = await done.get()
            tasks.discard(finished)
            yield finished.result()
    finally:
        beginning.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(beginning, *tasks, return_exceptions=True)
