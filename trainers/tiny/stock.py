"""A stock of demonstrations that grows while the model trains on it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np

from agentrl.trainers.batch import Row

CHUNK = 64
"""Episodes that are played together."""
Example = tuple[Row, bool]
"""An episode to train on, and whether it was solved."""


class Stock:
    """Rows that are played in the background, ahead of the training that draws from them.

    How many rows a step may draw from follows from the step alone, never from how fast they were played, so
    that a run is a function of its seed.
    """

    def __init__(self, play: Callable[[int], Awaitable[list[Example]]], *, first: int) -> None:
        self._play, self._promised = play, first
        self._examples: list[Example] = []
        self._task: asyncio.Task[None] | None = None

    @property
    def promised(self) -> int:
        """How many episodes draws may use by now."""
        return self._promised

    @property
    def success(self) -> float:
        """Share of the promised episodes that solved their task; they must be there, see `ready`."""
        seen = self._examples[: self._promised]
        return sum(correct for _, correct in seen) / max(1, len(seen))

    async def ready(self, *, fresh: int = 0) -> None:
        """Promise `fresh` more, and wait until all that was promised has been played."""
        self._promised += fresh
        self.fill()
        while len(self._examples) < self._promised:
            self.fill()
            await asyncio.sleep(0.002)

    def fill(self) -> None:
        """Start playing, if nothing is played now."""
        if self._task is None or self._task.done():
            if self._task is not None:
                self._task.result()
            self._task = asyncio.create_task(self._fill())

    async def draw(self, count: int, rng: np.random.Generator, *, fresh: int = 0) -> list[Row]:
        """Draw rows at random out of all that were promised so far; promise `fresh` more to later draws."""
        await self.ready()
        rows = [self._examples[i][0] for i in rng.integers(self._promised, size=count)]
        self._promised += fresh
        return rows

    async def close(self) -> None:
        """Stop playing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _fill(self) -> None:
        """Play up to one chunk more than was promised."""
        while len(self._examples) < self._promised + CHUNK:
            self._examples += await self._play(CHUNK)
