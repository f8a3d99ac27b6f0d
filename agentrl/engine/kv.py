"""Keys and values of many sequences, one row each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

KEY_BLOCK = 16
"""Attention reads keys in multiples of this: full vectors, so that what is masked adds exact zeros."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What one position of one sequence costs."""

    layers: int
    heads: int
    head_dim: int
    dtype: torch.dtype
    device: torch.device

    @property
    def bytes_per_position(self) -> int:
        """Keys and values of all layers."""
        return 2 * self.layers * self.heads * self.head_dim * self.dtype.itemsize


def shape_of(model: Any) -> Shape:
    """What the model's keys and values look like."""
    config = model.config
    heads = config.num_attention_heads
    return Shape(
        layers=config.num_hidden_layers,
        heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        dtype=model.dtype,
        device=model.device,
    )


class KVPool:
    """Keys and values as one tensor [layers, rows, 2 heads, positions, head_dim], keys before values.

    Positions stand next to each other within a head: attention reads a run of rows where it stands, a shared
    prefix is copied in long pieces. What stands beyond a row's length is stale but finite, and masked by who
    reads it. One more row than `rows` takes what nobody will read.
    """

    keys: list[Tensor]
    """Of each layer, [rows + 1, heads, positions, head_dim]."""
    values: list[Tensor]

    def __init__(self, shape: Shape, *, rows: int, positions: int) -> None:
        assert positions % KEY_BLOCK == 0, f"{positions} positions are no whole number of blocks"
        self.shape = shape
        self._heads = torch.arange(2 * shape.heads, device=shape.device)
        self._use(self._empty(rows, positions))

    @property
    def rows(self) -> int:
        """How many sequences fit."""
        return self._store.shape[1] - 1

    @property
    def positions(self) -> int:
        """How many tokens of a sequence fit."""
        return self._store.shape[3]

    def _empty(self, rows: int, positions: int) -> Tensor:
        s = self.shape
        size = (s.layers, rows + 1, 2 * s.heads, positions, s.head_dim)
        return torch.zeros(size, dtype=s.dtype, device=s.device)

    def _use(self, store: Tensor) -> None:
        self._store = store
        self._flat = [layer.view(-1, self.shape.head_dim) for layer in store]
        self.keys = [layer[:, : self.shape.heads] for layer in store]
        self.values = [layer[:, self.shape.heads :] for layer in store]

    @torch.inference_mode()
    def resize(self, keep: Tensor, *, rows: int, positions: int) -> None:
        """Move the rows `keep` to the front of a pool of another size."""
        old, new = self._store, self._empty(rows, positions)
        length = min(positions, old.shape[3])
        new[:, : len(keep), :, :length] = old[:, :, :, :length].index_select(1, keep)
        self._use(new)

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of a row to another one."""
        self._store[:, target, :, :length] = self._store[:, source, :, :length]

    def wipe(self, row: int) -> None:
        """Forget a row that holds a NaN, which would pass through its next user's mask: 0 * NaN."""
        self._store[:, row].zero_()

    def clear(self) -> None:
        """Forget everything; zeros, for the same reason."""
        self._store.zero_()

    def places(self, rows: Tensor, positions: Tensor) -> Tensor:
        """Where `write` puts the keys and values of T tokens, [T * 2 heads]."""
        count, length = self._store.shape[2:4]
        return ((rows[:, None] * count + self._heads) * length + positions[:, None]).flatten()

    def write(self, layer: int, places: Tensor, pairs: Tensor) -> None:
        """Store keys and values of T tokens, [T, 2 heads, head_dim]."""
        self._flat[layer].index_copy_(0, places, pairs.reshape(-1, self.shape.head_dim))
