"""What hangs where Python cannot end it: counted for the whole process, and capped."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from agentrl.errors import DeadlineError


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A thread, or a task that swallows its cancellation, that nobody waits for any more."""

    name: str
    since: float
    is_alive: Callable[[], bool]


class LeftBehind:
    """Keeps count, so that what hangs cannot pile up without bound.

    Args:
        most: So many may hang at once; then no further environment starts.
    """

    def __init__(self, most: int = 64) -> None:
        self.most = most
        self.total = 0
        """How many there ever were, those that ended later included."""
        self._left: list[Left] = []

    def add(self, name: str, is_alive: Callable[[], bool]) -> None:
        """Leave something behind."""
        self._left.append(Left(name=name, since=time.monotonic(), is_alive=is_alive))
        self.total += 1

    def __len__(self) -> int:
        """How many still hang."""
        self._left = [left for left in self._left if left.is_alive()]
        return len(self._left)

    def refuse_more(self) -> None:
        """Allow another environment to start.

        Raises:
            DeadlineError: As many hang as may.
        """
        if len(self) < self.most:
            return
        first = self._left[0]
        raise DeadlineError(
            f"{len(self._left)} calls of environments hang and cannot be killed (most allowed: {self.most}); "
            f"{first.name!r} was left behind first, {time.monotonic() - first.since:.0f} s ago: give what it "
            "waits for a time limit of its own, or its environment a close() that ends it"
        )


LEFT_BEHIND = LeftBehind()
"""Threads belong to the process, and so does their number."""
