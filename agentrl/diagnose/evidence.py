"""What a run has written down, as the rules see it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentrl.ending import Ending
from agentrl.episode import TRUNCATED, Episode

Series = list[tuple[int, float]]
"""(step, value), where there is a value."""
HARDLY = 0.02
"""Share of attempts that may succeed by luck."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An episode of training without its tokens."""

    step: int
    group: str
    """Tells the groups of one step apart."""
    id: str
    reward: float
    correct: bool | None
    finish: str
    failure: str | None
    turns: int
    tokens: int

    @property
    def truncated(self) -> bool:
        """Whether a limit ended it."""
        return self.finish in TRUNCATED


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cohort:
    """The attempts of one group that are evidence about the policy."""

    step: int
    attempts: tuple[Attempt, ...]

    @property
    def flat(self) -> bool:
        """Whether all were rewarded alike."""
        return len({a.reward for a in self.attempts}) < 2

    @property
    def solved(self) -> bool:
        """Whether all are right, so that nothing is left to be learnt from them."""
        return all(a.correct for a in self.attempts)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Play:
    """Whole episodes of one group, tokens and words included."""

    step: int
    episodes: tuple[Episode, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """A run: its settings, the numbers of its steps, all attempts of training and some of them whole."""

    config: Mapping[str, Any]
    steps: Sequence[Mapping[str, Any]]
    """Metrics of the committed steps, in order; see `agentrl.trainers.metrics`."""
    attempts: Sequence[Attempt] = ()
    plays: Sequence[Play] = ()
    """Whole groups, evenly spread over the run, in order."""
    measured: Sequence[Episode] = ()
    """Episodes of the measurement before training."""
    ending: Ending | None = None
    """Why the run gave up, where it did."""

    def series(self, name: str) -> Series:
        """Give a metric over the steps, where it was recorded."""
        found = ((int(s["step"]), s.get(name)) for s in self.steps)
        return [(step, float(v)) for step, v in found if v is not None and math.isfinite(v)]

    def values(self, name: str) -> list[float]:
        """Give a metric without its steps."""
        return [value for _, value in self.series(name)]

    def setting(self, name: str) -> Any:
        """Give a setting of the algorithm; None where there is none."""
        return self.config.get("algorithm_settings", {}).get(name)

    @property
    def cohorts(self) -> list[Cohort]:
        """Give the groups with two attempts or more, in the order of the steps."""
        found: dict[tuple[int, str], list[Attempt]] = {}
        for attempt in self.attempts:
            if attempt.failure is None:
                found.setdefault((attempt.step, attempt.group), []).append(attempt)
        return [Cohort(step=s, attempts=tuple(m)) for (s, _), m in found.items() if len(m) > 1]

    @property
    def hopeless(self) -> bool:
        """Whether hardly any attempt succeeds, so that what spoils a few may spoil all that could."""
        whole = [a for a in self.attempts if a.failure is None]
        least = min((a.reward for a in whole), default=0.0)
        good = [a.reward > least if a.correct is None else a.correct for a in whole]
        return bool(whole) and share(good) <= HARDLY

    @property
    def episodes(self) -> list[tuple[int, Episode]]:
        """Give the whole episodes that are evidence about the policy, with their steps."""
        return [(p.step, e) for p in self.plays for e in p.episodes if e.failure is None]

    @property
    def progress(self) -> list[float]:
        """Give the success of each step; the reward where nobody says what is correct."""
        return self.values("success") or self.values("reward_mean")


def mean(values: Iterable[float]) -> float:
    """Give the mean; 0 of nothing."""
    values = list(values)
    return sum(values) / len(values) if values else 0.0


def ends(values: Sequence[float]) -> tuple[float, float]:
    """Give the means of the first and of the last third.

    >>> ends([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    (0.1, 0.9)
    """
    count = max(1, len(values) // 3)
    return mean(values[:count]), mean(values[-count:])


def share(hits: Iterable[bool]) -> float:
    """Give the share of what is true; 0 of nothing."""
    return mean([float(hit) for hit in hits])


def correlation(pairs: Iterable[tuple[float, float]]) -> float | None:
    """Give Pearson's correlation; None where one of the two is constant.

    >>> correlation([(1, 2), (2, 4), (3, 6)])
    1.0
    """
    pairs = list(pairs)
    middle = mean(a for a, _ in pairs), mean(b for _, b in pairs)
    away = [(a - middle[0], b - middle[1]) for a, b in pairs]
    sizes = math.sqrt(sum(a * a for a, _ in away)), math.sqrt(sum(b * b for _, b in away))
    if not all(sizes):
        return None
    return round(sum(a * b for a, b in away) / (sizes[0] * sizes[1]), 9)


def onset(hits: Iterable[tuple[int, bool]], level: float = 0.5) -> int:
    """Give the first step in which at least this share is true; the first of all where there is none.

    >>> onset([(1, False), (1, True), (2, True), (2, True)], level=0.9)
    2
    """
    steps: dict[int, list[bool]] = {}
    for step, hit in hits:
        steps.setdefault(step, []).append(hit)
    return next((step for step, found in steps.items() if share(found) >= level), min(steps, default=1))
