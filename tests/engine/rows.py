"""Rows of a pool, each position one number: written as a step does, and read back."""

import torch
from torch import Tensor

from agentrl.engine.kv import KVPool, Shape


def shape(head_dim: int, dtype: torch.dtype = torch.float32, layers: int = 2) -> Shape:
    return Shape(layers=layers, heads=1, head_dim=head_dim, dtype=dtype, device=torch.device("cpu"))


def write(pool: KVPool, row: int, begin: int, numbers: Tensor) -> None:
    """Write positions begin.. of a row: [N] becomes all numbers of a position."""
    count = len(numbers)
    positions = begin + torch.arange(count)
    places = pool.places(torch.full((count,), row), positions)
    for layer in range(pool.shape.layers):
        pairs = (numbers + layer)[:, None, None].expand(count, 2, pool.shape.head_dim)
        pool.write(layer, places, pairs.to(pool.shape.dtype))


def read(pool: KVPool, row: int, length: int) -> list[list[float]]:
    """What the first positions hold: of each layer, keys and values, which must be one number a position."""
    found = []
    for layer in range(pool.shape.layers):
        for pairs in (pool.keys[layer][row, 0, :length], pool.values[layer][row, 0, :length]):
            assert torch.equal(pairs, pairs[:, :1].expand_as(pairs))
            found.append((pairs[:, 0].float() - layer).tolist())
    return found
