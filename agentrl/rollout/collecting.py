"""What strategies share: groups run side by side, and come as they finish."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from agentrl.episode import Group
from agentrl.rollout.protocol import WorkItem


async def as_they_finish(
    work: Sequence[WorkItem], play: Callable[[WorkItem], Awaitable[Group]]
) -> AsyncIterator[Group]:
    """Play every item in a task of its own and give each group when it is done; closing cancels the rest."""

    async def alone(item: WorkItem) -> Group:
        try:
            return await play(item)
        except BaseExceptionGroup as errors:  # a group of tasks wraps the one error that ended it
            raise errors.exceptions[0] from None

    tasks = [asyncio.create_task(alone(item)) for item in work]
    try:
        for finished in asyncio.as_completed(tasks):
            yield await finished
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
