"""The failure budget: infrastructure may fail now and then, not all the time, and not where it is handy."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from agentrl.episode import Episode, Failure, Group
from agentrl.errors import RunStopped
from agentrl.trainers.recipe import FailureBudget

log = logging.getLogger("agentrl")


class FailureBudgetSpent(RunStopped):
    """Too many episodes failed for reasons outside their actions; the run stops."""


class FailureWatch:
    """Looks at the last attempts, those that were repeated included, and raises when too many failed.

    Args:
        budget: How many may.
        tell: Is given a line on the first failure of each class and cause; a repeated attempt leaves no more.
    """

    def __init__(self, budget: FailureBudget, tell: Callable[[str], None] = log.warning) -> None:
        self.budget, self.tell = budget, tell
        self._told: set[tuple[str, str]] = set()
        size = max(budget.window, budget.minimum)
        self._recent: deque[tuple[str, Failure | None]] = deque(maxlen=size)

    def add(self, *episodes: Episode) -> None:
        """Count finished episodes.

        Raises:
            FailureBudgetSpent: Names the commonest class and the latest episode of it.
        """
        for episode in episodes:
            self._tell(episode)
            self._recent += [(episode.id, failure) for failure in episode.failures]
            if episode.failure is None:
                self._recent.append((episode.id, None))
        failed = [(id, failure) for id, failure in self._recent if failure is not None]
        if len(self._recent) >= self.budget.minimum and len(failed) > self.budget.share * len(self._recent):
            share = len(failed) / len(self._recent)
            raise FailureBudgetSpent(self._message(failed), facts={"failure_share": share})

    def _tell(self, episode: Episode) -> None:
        for failure in episode.failures:
            if (key := (failure.kind, failure.caused_by)) not in self._told:
                self._told.add(key)
                cause = f" ({failure.caused_by})" if failure.caused_by else ""
                again = "" if failure is episode.failure else "; attempted again"
                self.tell(f"{failure.kind} failure in episode {episode.id}: {failure.message}{cause}{again}")

    def state_dict(self) -> list[tuple[str, Failure | None]]:
        """Give the attempts that are counted, the latest last."""
        return list(self._recent)

    def load_state_dict(self, state: Iterable[tuple[str, Failure | None]]) -> None:
        """Go on counting where `state_dict` was taken."""
        self._recent.clear()
        self._recent.extend((id, failure) for id, failure in state)

    def _message(self, failed: list[tuple[str, Failure]]) -> str:
        kind, count = Counter(failure.kind for _, failure in failed).most_common(1)[0]
        id, example = next((id, f) for id, f in reversed(failed) if f.kind == kind)
        return (
            f"{len(failed)} of the last {len(self._recent)} attempts failed "
            f"(allowed {self.budget.share:.0%}), {count} of class {kind!r}; episode {id}: "
            f"{example.message}" + (f" ({example.caused_by})" if example.caused_by else "")
        )


def refuse_failures(episodes: Sequence[Episode], budget: FailureBudget) -> None:
    """Refuse to take episodes for a measurement of which too few say anything about the policy.

    Raises:
        FailureBudgetSpent: More of them failed than the budget allows, or all; names the first.
    """
    failed = [(e.id, e.failure) for e in episodes if e.failure is not None]
    enough = len(episodes) >= budget.minimum and len(failed) > budget.share * len(episodes)
    if failed and (enough or len(failed) == len(episodes)):
        id, first = failed[0]
        some = f"{len(failed)} of {len(episodes)}" if len(failed) < len(episodes) else f"all {len(failed)}"
        raise FailureBudgetSpent(
            f"{some} episodes of a measurement failed; the first, {id}, of class {first.kind!r}: "
            + first.message
            + (f" ({first.caused_by})" if first.caused_by else ""),
            facts={"failure_share": len(failed) / len(episodes)},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureShares:
    """How often attempts failed, and whether that went along with reward.

    Actions must not be able to bring failures about. Where they can, a policy escapes into them what would
    have cost reward: failures are then common in some groups and rare in others, and go along with their
    rewards or grow while these do.

    >>> FailureShares.of([])
    FailureShares(share=0.0, low=None, high=None)
    """

    share: float
    """Of all attempts."""
    low: float | None
    """Of the attempts in groups whose mean reward is below the median; None where groups do not differ."""
    high: float | None
    """Of those above it."""

    @classmethod
    def of(cls, groups: Sequence[Group]) -> FailureShares:
        """Gather them; a group of failures alone has no reward and counts in `share` only."""
        counted = [(_reward(g), *_attempts(g)) for g in groups]
        rewards = sorted(reward for reward, _, _ in counted if reward is not None)
        middle = (rewards[(len(rewards) - 1) // 2] + rewards[len(rewards) // 2]) / 2 if rewards else 0.0
        low = [(f, n) for reward, f, n in counted if reward is not None and reward < middle]
        high = [(f, n) for reward, f, n in counted if reward is not None and reward > middle]
        return cls(
            share=_share([(f, n) for _, f, n in counted]) or 0.0,
            low=_share(low) if high else None,
            high=_share(high) if low else None,
        )


def _attempts(group: Group) -> tuple[int, int]:
    """Give how many attempts of a group failed, and how many there were."""
    failed = sum(len(e.failures) for e in group.episodes)
    return failed, failed + len(group.whole)


def _reward(group: Group) -> float | None:
    whole = group.whole
    return sum(e.reward for e in whole) / len(whole) if whole else None


def _share(counts: Sequence[tuple[int, int]]) -> float | None:
    total = sum(n for _, n in counts)
    return sum(f for f, _ in counts) / total if total else None
