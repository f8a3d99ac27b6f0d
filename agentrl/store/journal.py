"""Where long work leaves its results by name, so that it need not be done twice."""

from __future__ import annotations

from typing import Any, Protocol


class Journal(Protocol):
    """Keeps results; a `Store` does."""

    def keep(self, name: str, value: Any, /) -> None:
        """Write a result down; see `agentrl.codec` for what may be in it."""
        ...

    def kept(self, name: str, /) -> Any:
        """Give a result that was written down; None where there is none."""
        ...


class NoJournal:
    """Keeps nothing."""

    def keep(self, name: str, value: Any, /) -> None:
        """Do nothing."""

    def kept(self, name: str, /) -> Any:
        """Give None."""
        return None
