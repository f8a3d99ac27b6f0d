"""Several linear maps of one input as one product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Fused(NamedTuple):
    """The outputs of several `nn.Linear`, side by side."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)


@torch.no_grad()
def fuse(maps: Sequence[nn.Linear]) -> Fused:
    """Put the maps' parameters into one tensor and make them views of it.

    Whoever writes into the parameters writes into the fused tensor: new weights need no second step.
    """
    weight = _joined([m.weight for m in maps])
    biases = [m.bias for m in maps if m.bias is not None]
    if biases and len(biases) < len(maps):
        raise ValueError("some of the maps have a bias and some have none")
    return Fused(weight, _joined(biases) if biases else None)


def _joined(parameters: Sequence[Tensor]) -> Tensor:
    ends = torch.tensor([p.numel() for p in parameters]).cumsum(0).tolist()
    first = parameters[0]
    starts = [first.storage_offset(), *(first.storage_offset() + e for e in ends[:-1])]
    size = (sum(len(p) for p in parameters), *first.shape[1:])
    if all(
        p.is_contiguous()
        and p.storage_offset() == s
        and p.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        for p, s in zip(parameters, starts, strict=True)
    ):  # an earlier engine on this model did it
        return first.detach().as_strided(size, first.stride())
    whole = torch.cat([p.detach() for p in parameters])
    for parameter, piece in zip(parameters, torch.split(whole, [len(p) for p in parameters]), strict=True):
        parameter.data = piece
    return whole
