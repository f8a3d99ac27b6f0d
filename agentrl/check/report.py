"""What a check found, and the report of all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MARK = "warning: "
"""Stands in the detail of a check before what is no fault and yet worth knowing."""


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

    @property
    def warnings(self) -> tuple[str, ...]:
        """What checks that passed say that their reader should know."""
        marked = [(c.name, c.detail.partition(MARK)[2]) for c in self.checks if c.passed]
        return tuple(f"{name}: {said}" for name, said in marked if said)

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON data."""
        checks = [{"name": c.name, "passed": c.passed, "detail": c.detail} for c in self.checks]
        return {
            "env": self.env,
            "passed": self.passed,
            "warnings": list(self.warnings),
            "isolation": self.isolation,
            "checks": checks,
        }
