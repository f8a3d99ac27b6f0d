"""Sums over the machines that train together."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Comm(Protocol):
    """What the updater needs of several processes; denominators and gradients go through it."""

    def sum(self, value: Tensor) -> Tensor:
        """Give the sum over all processes."""
        ...


class LocalComm:
    """One process: the sum is the value."""

    def sum(self, value: Tensor) -> Tensor:
        return value
