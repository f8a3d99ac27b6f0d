"""How often a tiny model solves tasks, played by the real engine."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Protocol

from agentrl.engine.protocol import Sampling
from agentrl.engine.torch_engine import TorchEngine
from agentrl.registry import Worker
from agentrl.rollout.independent import Independent
from agentrl.rollout.protocol import WorkItem
from agentrl.rollout.running import Table
from agentrl.store.journal import Journal, NoJournal
from agentrl.task import TaskSource, derive_seed
from agentrl.trainers.failures import refuse_failures
from agentrl.trainers.recipe import FailureBudget
from agentrl.trainers.tiny.demonstrations import WARM
from agentrl.trainers.tiny.make import Tiny

FEW_ARE_ENOUGH = FailureBudget(share=1.0)
"""A warm start only needs to know where it stands; the runs that follow hold their own budget."""


class Measure(Protocol):
    """Gives the share of `count` tasks that the model solves now."""

    async def __call__(self, count: int, *, greedy: bool = False) -> float:
        """Play and count."""
        ...


class Played:
    """A `Measure` that plays training tasks with an engine of its own."""

    def __init__(
        self, tiny: Tiny, worker: Worker, tasks: TaskSource, *, seed: int, journal: Journal | None = None
    ) -> None:
        self._tiny, self._worker, self._tasks, self._seed = tiny, worker, tasks, seed
        self._journal = journal or NoJournal()

    async def __call__(self, count: int, *, greedy: bool = False) -> float:
        """Play and count, or recall what was counted; failed episodes are left out.

        Raises:
            FailureBudgetSpent: All of them failed.
        """
        name = f"{WARM}measured-{self._tasks.position}"
        if (kept := self._journal.kept(name)) is not None:
            self._tasks.position += count
            return float(kept)
        share = await self._play(count, greedy=greedy)
        self._journal.keep(name, share)
        return share

    async def _play(self, count: int, *, greedy: bool) -> float:
        engine = TorchEngine(copy.deepcopy(self._tiny.model))
        limits = replace(self._tiny.limits, max_tokens_per_turn=self._tiny.max_tokens_per_turn)
        table = Table(engine=engine, dialect=self._tiny.dialect, limits=limits)
        sampling = Sampling(temperature=0.0 if greedy else 1.0)
        work = [
            WorkItem(task=t, group_id=t.id, size=1, seed=derive_seed(self._seed, t.id), sampling=sampling)
            for t in self._tasks.take(count)
        ]
        try:
            strategy = Independent(table=table, new_env=self._worker.new)
            groups = [g async for g in strategy.collect(work)]
        finally:
            await engine.close()
        refuse_failures([e for g in groups for e in g.episodes], FEW_ARE_ENOUGH)
        whole = [e for g in groups for e in g.whole]
        return sum(e.correct is True for e in whole) / len(whole)
