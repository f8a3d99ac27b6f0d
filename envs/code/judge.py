"""Judges a program by hidden tests in a fresh sandbox.

Only inputs go in. Each result comes back as data, is rebuilt here from bytes as exact built-in types and
compared here: expected values never enter a sandbox. So whatever the program does there (patching builtins,
an `__eq__` that always agrees, printing, exiting, writing to the channel), all it can bring about is which
data arrive, and it has nothing but the inputs to choose them by.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agentrl.tools.sandbox import Execution, Sandbox, SandboxPool


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One hidden test: a call and its result.

    >>> Case(function="double", arguments=(4,), expected=8).function
    'double'
    """

    function: str
    arguments: tuple[Any, ...]
    """Data that Python's `repr` writes as an expression."""
    expected: Any
    tolerance: float = 0.0
    """Above 0: numbers may differ by so much, and an int may stand for a float."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the tests said."""

    passed: int
    total: int
    error: str = ""
    """Why the program itself could not be run; '' where it could."""

    @property
    def correct(self) -> bool:
        """Whether there were tests and all passed."""
        return 0 < self.total == self.passed

    @property
    def share(self) -> float:
        """Part of the tests that passed."""
        return self.passed / self.total if self.total else 0.0


async def judge(source: str, cases: Sequence[Case], pool: SandboxPool, *, seconds: float = 2.0) -> Verdict:
    """Run a program's definitions, then each case's call, in a sandbox that no one else has used or will use.

    Args:
        source: Python that defines the functions asked for.
        cases: The hidden tests.
        pool: Where the sandbox comes from.
        seconds: Wall time for the definitions and for each call.

    Raises:
        SandboxError: The sandbox was lost for a reason outside the program.
    """
    box = await pool.acquire()
    try:
        defined = await box.run(source, timeout=seconds)
        if not defined.ok or not defined.alive:
            return Verdict(
                passed=0, total=len(cases), error=defined.error or "the program ended its interpreter"
            )
        return Verdict(passed=await _count(box, cases, seconds), total=len(cases))
    finally:
        await box.close()


async def _count(box: Sandbox, cases: Sequence[Case], seconds: float) -> int:
    passed = 0
    for case in cases:
        call = f"{case.function}({', '.join(map(repr, case.arguments))})"
        ran = await box.run(f"__import__('builtins').emit({call})", timeout=seconds)
        passed += agrees(ran, case)
        if not ran.alive:
            break
    return passed


def agrees(ran: Execution, case: Case) -> bool:
    """Whether the one value that a call sent is the expected one."""
    return ran.ok and len(ran.values) == 1 and same(ran.values[0], case.expected, case.tolerance)


def same(value: Any, expected: Any, tolerance: float = 0.0) -> bool:
    """Whether two data are equal, types included; not a number is equal to itself.

    >>> same([1, 2], [1, 2]), same(True, 1), same(1, 1.0), same((1,), [1])
    (True, False, False, False)
    >>> same(float("nan"), float("nan")), same(0.1 + 0.2, 0.3), same(0.1 + 0.2, 0.3, 1e-9)
    (True, False, True)
    """
    kind = type(expected)
    if tolerance and kind in (int, float) and type(value) in (int, float):
        return _near(value, expected, tolerance)
    if type(value) is not kind:
        return False
    if kind is float:
        return bool(value == expected) or (math.isnan(value) and math.isnan(expected))
    if kind in (list, tuple):
        pairs = zip(value, expected, strict=False)
        return len(value) == len(expected) and all(same(v, e, tolerance) for v, e in pairs)
    if kind is dict:
        return len(value) == len(expected) and _same_items(value, expected, tolerance)
    if kind in (set, frozenset):
        return len(value) == len(expected) and {_typed(v) for v in value} == {_typed(e) for e in expected}
    return bool(value == expected)


def _near(value: float, expected: float, tolerance: float) -> bool:
    try:
        return abs(value - expected) <= tolerance or (math.isnan(value) and math.isnan(expected))
    except OverflowError:
        return False


def _same_items(value: dict[Any, Any], expected: dict[Any, Any], tolerance: float) -> bool:
    own = {_typed(k): v for k, v in value.items()}
    return all(_typed(k) in own and same(own[_typed(k)], e, tolerance) for k, e in expected.items())


def _typed(key: Any) -> Any:
    """A key that is equal only to keys of the same types: 1, 1.0 and True differ."""
    if type(key) in (tuple, frozenset):
        parts = map(_typed, key)
        return type(key), tuple(parts) if type(key) is tuple else frozenset(parts)
    return type(key), "nan" if key != key else key
