"""Stopping early: where nearly everything succeeds, hardly a group is left that can teach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from agentrl.errors import ConfigError
from agentrl.trainers.metrics import StepMetrics

FROM_SCRATCH = 0.985
"""Success at which training of a small model made on the spot ends."""


class Stop(Protocol):
    """Decides after each step whether the run ends before its last step."""

    def __call__(self, done: Sequence[StepMetrics], /) -> str | None:
        """Give the reason, or None to go on; `done` are the metrics of all steps so far."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Saturation:
    """Stop: the mean success over the last `window` steps reached `success`."""

    success: float
    window: int = 5

    def __post_init__(self) -> None:
        if not 0 < self.success <= 1:
            raise ConfigError(f"stop_success={self.success}: need a value in (0, 1], or 0 for never")
        if self.window < 1:
            raise ConfigError(f"window={self.window}: need 1 or more")

    def __call__(self, done: Sequence[StepMetrics]) -> str | None:
        last = [m.success for m in done[-self.window :] if m.success is not None]
        if len(last) < self.window or sum(last) / len(last) < self.success:
            return None
        return (
            f"success {sum(last) / len(last):.3f} over the last {self.window} steps: stopped after step "
            f"{len(done)} of {done[-1].steps} (stop_success=0 trains them all)"
        )
