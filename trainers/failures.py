"""The failure budget: infrastructure may fail now and then, not all the time."""

from __future__ import annotations

from collections import Counter, deque

from agentrl.episode import Episode
from agentrl.errors import InfrastructureError
from agentrl.trainers.recipe import FailureBudget


class FailureBudgetSpent(InfrastructureError):
    """Too many episodes failed for reasons outside their actions; the run stops."""


class FailureWatch:
    """Looks at the last episodes and raises when too many of them failed."""

    def __init__(self, budget: FailureBudget) -> None:
        self.budget = budget
        self._recent: deque[Episode] = deque(maxlen=max(budget.window, budget.minimum))

    def add(self, *episodes: Episode) -> None:
        """Count finished episodes.

        Raises:
            FailureBudgetSpent: Names the commonest class and the latest episode of it.
        """
        self._recent.extend(episodes)
        failed = [e for e in self._recent if e.failure is not None]
        if len(self._recent) >= self.budget.minimum and len(failed) > self.budget.share * len(self._recent):
            raise FailureBudgetSpent(self._message(failed))

    def _message(self, failed: list[Episode]) -> str:
        kinds = Counter(e.failure.kind for e in failed if e.failure is not None)
        kind, count = kinds.most_common(1)[0]
        example = next(e for e in reversed(failed) if e.failure is not None and e.failure.kind == kind)
        reason = example.failure.message if example.failure is not None else ""
        return (
            f"{len(failed)} of the last {len(self._recent)} episodes failed "
            f"(allowed {self.budget.share:.0%}), {count} of class {kind!r}; episode {example.id}: {reason}"
        )
