"""Why a run ended before its time, written beside its rows so that it can be asked later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from agentrl.runs import STOPPED, read_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What stopped a run."""

    error: str
    """Type of the exception, such as 'WeightsDiffer'."""
    message: str
    step: int
    """The step that was not finished, counted from 1."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Numbers behind the message, by the names of the metrics."""

    @classmethod
    def of(cls, error: BaseException, *, step: int) -> Self:
        """Describe an exception.

        >>> Ending.of(OSError(28, "full"), step=3).message
        '[Errno 28] full'
        """
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        facts = getattr(error, "facts", {})
        return cls(error=type(error).__name__, message=str(error), step=step, facts=dict(facts))

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read that of a run; None where it goes on, was interrupted or is finished."""
        data = read_json(folder / STOPPED)
        return None if data is None else cls(**data)

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON data."""
        return asdict(self)
