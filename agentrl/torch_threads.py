"""How many threads torch computes a model with: that changes sums, so it must not come from chance."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

SMALL_MODEL = 10_000_000
"""Parameters below which one thread is faster on a CPU than several."""


def threads_for(model: Any) -> int:
    """Give 1 for a small model on a CPU, else as many as torch takes in this thread."""
    small = sum(p.numel() for p in model.parameters()) < SMALL_MODEL
    return 1 if small and model.device.type == "cpu" else torch.get_num_threads()


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Compute with so many threads, in this thread of Python.

    One that computes for the first time takes the number that any other has set last.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
