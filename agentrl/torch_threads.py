"""How many threads torch computes a model with: that changes sums, so it must not come from chance."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

SMALL_MODEL = 10_000_000
"""Parameters below which one thread is faster on a CPU than several."""


def threads_for(model: Any) -> int:
    """Give 1 for a small model on a CPU, else 0: as many as torch takes by itself."""
    small = sum(p.numel() for p in model.parameters()) < SMALL_MODEL
    return 1 if small and model.device.type == "cpu" else 0


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Compute with so many threads; 0 changes nothing.

    A thread of Python takes torch's number when it first computes, which another may have changed before.
    """
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count:
            torch.set_num_threads(before)
