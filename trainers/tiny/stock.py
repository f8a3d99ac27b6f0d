"""A stock of demonstrations that grows while the model trains on it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np

from agentrl.trainers.batch import Row

CHUNK = 64
"""Episodes that are played together."""


class Stock:
    """Rows that are played in the background, ahead of the training that draws from them.

    How many rows a step may draw from follows from the step alone, never from how fast they were played, so
    that a run is a function of its seed.
    """

    def __init__(self, play: Callable[[int], Awaitable[list[Row]]], *, first: int) -> None:
        self._play, self._promised = play, first
        self._rows: list[Row] = []
        self._task: asyncio.Task[None] | None = None

    async def draw(self, count: int, rng: np.random.Generator) -> list[Row]:
        """Draw rows at random out of all that were promised so far."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._fill())
        while len(self._rows) < self._promised:
            if self._task.done():
                await self._task
                self._task = asyncio.create_task(self._fill())
            await asyncio.sleep(0.002)
        return [self._rows[i] for i in rng.integers(self._promised, size=count)]

    def grow(self, count: int) -> None:
        """Promise further rows to later steps."""
        self._promised += count

    async def close(self) -> None:
        """Stop playing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _fill(self) -> None:
        """Play up to one chunk more than was promised."""
        while len(self._rows) < self._promised + CHUNK:
            self._rows += await self._play(CHUNK)
