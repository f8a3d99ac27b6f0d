"""Finds benchmarks by the entry points of the group `agentrl.benchmarks` and runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, Protocol

from agentrl.bench.speed.claim import Claim
from agentrl.errors import ConfigError, unknown
from agentrl.progress import Progress

GROUP = "agentrl.benchmarks"
EVERY = "all"


class Benchmark(Protocol):
    """Measures; gives one row, or several where more than one thing is wanted."""

    def __call__(self, progress: Progress) -> Claim | Mapping[str, Any] | Sequence[Claim | Mapping[str, Any]]:
        """Measure, showing how far it is."""
        ...


def names() -> list[str]:
    """Give the benchmarks that there are."""
    return sorted(point.name for point in entry_points(group=GROUP))


def run_benchmarks(name: str, progress: Progress) -> list[dict[str, Any]]:
    """Run one benchmark, or all of them one after another.

    Raises:
        ConfigError: There is none of this name.
    """
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name != EVERY and name not in found:
        raise ConfigError(unknown("benchmark", name, [*found, EVERY]))
    rows: list[dict[str, Any]] = []
    for one in sorted(found) if name == EVERY else [name]:
        benchmark: Benchmark = found[one].load()
        given = benchmark(progress)
        several = [given] if isinstance(given, (Claim, Mapping)) else list(given)
        rows += [row.to_json() if isinstance(row, Claim) else dict(row) for row in several]
    return rows
