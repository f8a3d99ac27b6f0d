"""Reads rewards as environments give them: a number or parts, and whether it means a solved task."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from agentrl.errors import RewardError

ROUNDING = 1e-6
"""A reward so little below 1 still means correct: parts add up to 1 on paper, or in single precision."""


def read_reward(verdict: Any) -> tuple[float, dict[str, float], bool]:
    """Read what `reward` returned: the sum, its parts, and whether it means correct.

    >>> read_reward({"exact": 1.0, "length": -0.1})
    (0.9, {'exact': 1.0, 'length': -0.1}, False)
    """
    if isinstance(verdict, Mapping) and verdict:
        parts = {k: as_number(v, "return a float, or a dict of floats") for k, v in verdict.items()}
        value = as_number(exact_sum(parts.values()), "return a float, or a dict of floats")
    else:
        parts, value = {}, as_number(verdict, "return a float, or a dict of floats")
    return value, parts, is_correct(value)


def is_correct(reward: float) -> bool:
    """Whether a reward means a solved task, where nothing else says so.

    >>> is_correct(0.7 + 0.2 + 0.1), is_correct(0.999)
    (True, False)
    """
    return reward >= 1 - ROUNDING


def exact_sum(values: Iterable[float]) -> float:
    """Add up with one rounding, so that every version of Python gives the same; infinite where too large."""
    try:
        return math.fsum(values)
    except OverflowError:
        return math.inf


def as_number(reward: Any, remedy: str = "return a float") -> float:
    """Read a reward: a number of Python, NumPy or torch, alone or in an array without dimensions.

    >>> import numpy as np
    >>> as_number(np.float32(0.5)), as_number(True)
    (0.5, 1.0)

    Raises:
        RewardError: It is no finite number; text is none, whatever it says.
    """
    try:
        value = reward.item() if getattr(reward, "ndim", None) == 0 else reward
        if isinstance(value, (str, bytes, bytearray)):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise RewardError(f"reward {reward!r} is no number: {remedy}") from None
    if not math.isfinite(number):
        raise RewardError(f"reward {number} is not finite: {remedy}")
    return number
