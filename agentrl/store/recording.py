"""A strategy around another one: what is written down is not played again, the rest is played and written."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from agentrl.codec import to_bytes
from agentrl.episode import Group
from agentrl.rollout.protocol import RolloutStrategy, WorkItem
from agentrl.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Finds the groups that an interrupted run has finished, and lets `inner` play the others.

    A group in which something failed for reasons outside its actions is played again: that may have been the
    interruption itself.
    """

    inner: RolloutStrategy
    store: Store
    phase: str
    step: Callable[[], int] = lambda: 0
    """The step that the episodes belong to, counted from 1; 0 before the first."""

    async def collect(self, work: Sequence[WorkItem]) -> AsyncIterator[Group]:
        """Give the groups that were found, then the others as they finish."""
        step = self.step()
        found = self.store.groups(phase=self.phase, step=step)
        items = {item.group_id: item for item in work}
        missing = []
        for item in work:
            episodes = found.get(digest(item))
            if episodes is None or any(e.failure is not None for e in episodes):
                missing.append(item)
            else:
                yield Group(id=item.group_id, episodes=episodes)
        async with aclosing(cast(Any, self.inner.collect(missing))) as finished:
            async for group in finished:
                item = items[group.id]
                self.store.record(group, item.task, phase=self.phase, step=step, work=digest(item))
                yield group


def digest(item: WorkItem) -> str:
    """Tell pieces of work apart: task, size, seed and sampling."""
    facts = to_bytes([item.group_id, item.task, item.size, item.seed, repr(item.sampling)])
    return hashlib.blake2b(facts, digest_size=16).hexdigest()
