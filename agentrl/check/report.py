"""What a check found, and the report of all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class Faulty(Exception):
    """The environment breaks its contract; the message gives the evidence and says what to mend."""


class Hung(Faulty):
    """It did not answer in time."""


class NotApplicable(Exception):
    """The check has nothing to look at; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """The outcome of one check.

    >>> CheckResult(name="closes", passed=True, detail="closed 5 times").passed
    True
    """

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The outcome of all checks of one environment."""

    env: str
    checks: tuple[CheckResult, ...]
    isolation: str = ""
    """How the environment isolates the code that it runs; '' where it runs none."""

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return all(c.passed for c in self.checks)

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        """The checks that found something."""
        return tuple(c for c in self.checks if not c.passed)

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON data."""
        checks = [{"name": c.name, "passed": c.passed, "detail": c.detail} for c in self.checks]
        return {"env": self.env, "passed": self.passed, "isolation": self.isolation, "checks": checks}
