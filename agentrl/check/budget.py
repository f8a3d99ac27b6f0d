"""How long a check may look for a fault."""

from __future__ import annotations

import time

PATIENCE = 4.0
"""Wall time may be this many times the budget: an environment that sleeps is not looked at for ever."""


class Budget:
    """Seconds of this process's own work, so that a busy machine does not make a check look away.

    >>> Budget(60).spent, Budget(0).spent
    (False, True)
    """

    def __init__(self, seconds: float) -> None:
        self._work, self._wall = time.process_time(), time.monotonic()
        self._seconds = seconds

    def extend(self, seconds: float) -> None:
        """Give more time."""
        self._seconds += seconds

    @property
    def spent(self) -> bool:
        """Whether nothing is left."""
        worked, waited = time.process_time() - self._work, time.monotonic() - self._wall
        return worked >= self._seconds or waited >= PATIENCE * self._seconds
