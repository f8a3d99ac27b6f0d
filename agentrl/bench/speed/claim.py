"""One line of a benchmark: what was measured, against what, and whether what is wanted held."""

from __future__ import annotations

import contextlib
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

Direction = Literal["at most", "at least"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What should hold of the ratio to the peer.

    >>> Wanted(direction="at most", value=1.05).holds(1.01), str(Wanted(direction="at least", value=3))
    (True, 'at least 3')
    """

    direction: Direction
    value: float

    def holds(self, ratio: float) -> bool:
        """Whether a ratio is good enough."""
        return ratio <= self.value if self.direction == "at most" else ratio >= self.value

    def __str__(self) -> str:
        return f"{self.direction} {self.value:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What we are compared with; a bound that is given rather than measured has one run."""

    name: str
    runs: Sequence[float]

    @property
    def median(self) -> float:
        """The middle of its runs."""
        return statistics.median(self.runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Our runs and the peer's, in one unit; the ratio is median over median, or the inverse for a speed-up.

    >>> bound = Peer(name="bound", runs=[3.0])
    >>> most = Wanted(direction="at most", value=1.05)
    >>> claim = Claim(name="x", unit="s", runs=[3.1, 3.0, 3.3], peer=bound, wanted=most)
    >>> round(claim.ratio, 3), claim.to_json()["held"]
    (1.033, True)
    """

    name: str
    unit: str
    runs: Sequence[float]
    peer: Peer
    wanted: Wanted
    speed_up: bool = False
    """The ratio is the peer's median over ours: how many times faster we are."""
    packages: Sequence[str] = ("agentrl",)
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """The middle of our runs."""
        return statistics.median(self.runs)

    @property
    def ratio(self) -> float:
        """Ours to the peer's."""
        above, below = (self.peer.median, self.median) if self.speed_up else (self.median, self.peer.median)
        return above / below

    def to_json(self) -> dict[str, Any]:
        """Give the row of a table."""
        return {
            "name": self.name,
            "ratio": self.ratio,
            "wanted": str(self.wanted),
            "held": self.wanted.holds(self.ratio),
            "median": self.median,
            "unit": self.unit,
            "runs": list(self.runs),
            "peer": {"name": self.peer.name, "median": self.peer.median, "runs": list(self.peer.runs)},
            "versions": versions(self.packages) | dict(self.details.get("versions", {})),
        } | {k: v for k, v in self.details.items() if k != "versions"}


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Give Python's version and those of packages that are installed here."""
    found = {"python": platform.python_version()}
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
