"""A number that tells weights apart: the same on every device, and different after any change of one bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

CHUNK = 1 << 20
"""Words at a time, so that no copy of a large tensor is made."""
MULTIPLIERS = (-7046029254386353131, -4658895280553007687)
"""Those of SplitMix64 as signed numbers; products wrap around."""


@runtime_checkable
class HoldsWeights(Protocol):
    """An engine that says which weights it serves."""

    async def fingerprints(self) -> Mapping[str, int]:
        """Give the fingerprint of every parameter as it is held; a tied one under each of its names."""
        ...


@torch.no_grad()
def fingerprint(tensor: Tensor) -> int:
    """Give the sum of a tensor's 64-bit words, each times an odd number that follows from its place.

    An odd factor loses no bit, so another word, another order or another type gives another number.

    >>> a = torch.arange(6.0)
    >>> fingerprint(a) == fingerprint(a.clone()), fingerprint(a) == fingerprint(a.flip(0))
    (True, False)
    """
    data = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    if data.numel() % 8 or data.storage_offset() % 8:
        data = torch.cat([data, data.new_zeros(-data.numel() % 8)])
    words = data.view(torch.int64)
    total = torch.zeros((), dtype=torch.int64, device=words.device)
    for start in range(0, len(words), CHUNK):
        piece = words[start : start + CHUNK]
        place = torch.arange(start + 1, start + 1 + len(piece), device=words.device)
        mixed = place * MULTIPLIERS[0]
        mixed = (mixed ^ (mixed >> 29)) * MULTIPLIERS[1]
        total += (piece * (mixed | 1)).sum()
    return int(total)


def fingerprints(model: nn.Module) -> dict[str, int]:
    """Give the fingerprint of every parameter, a tied one under each of its names."""
    values = {id(p): fingerprint(p) for p in model.parameters()}
    return {name: values[id(p)] for name, p in model.named_parameters(remove_duplicate=False)}
