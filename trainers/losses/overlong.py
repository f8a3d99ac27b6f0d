"""DAPO's soft penalty on length."""

from __future__ import annotations


def overlong_penalty(length: float, *, max_length: int, cache: int) -> float:
    """min(0, ((max_length - cache) - length) / cache), at least -1: 0, then a slope, then -1.

    Args:
        length: Tokens that the agent wrote.
        max_length: Where the penalty reaches -1.
        cache: How far before that it begins.

    Source: DAPO, arXiv:2503.14476 eq. 13; verl has no floor at -1.

    >>> [overlong_penalty(length, max_length=20, cache=4) for length in (12, 16, 18, 20, 99)]
    [0.0, 0.0, -0.5, -1.0, -1.0]
    """
    return max(-1.0, min(0.0, (max_length - cache - length) / cache))
