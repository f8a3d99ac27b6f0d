"""Keys and values of many sequences, one row each, and the cache through which a model uses them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """Where one forward pass over B rows of Q new tokens reads and writes."""

    rows: Tensor | None
    """Rows whose keys are read, [B]; None: the first B rows, read without a copy."""
    length: int
    """Positions 0..length-1 are read."""
    write_rows: Tensor
    """Row of each token written, [N]."""
    write_positions: Tensor
    source: Tensor | None
    """Index of each token written among the B * Q new ones, [N]; None: all of them, in order."""


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


class KVPool:
    """Keys and values as one tensor [layers, 2, rows, positions, heads, head_dim].

    Positions come before heads, so that a token is written and a prefix is copied as one piece of memory.
    What stands beyond a row's length is stale but finite, and is masked by the caller.
    """

    def __init__(self, shape: Shape, *, rows: int, positions: int) -> None:
        self.shape = shape
        self.step: Step | None = None
        self.cache = Cache(layers=[_PoolLayer(self, i) for i in range(shape.layers)])
        self._store = self._empty(rows, positions)

    @property
    def rows(self) -> int:
        """How many sequences fit."""
        return self._store.shape[2]

    @property
    def positions(self) -> int:
        """How many tokens of a sequence fit."""
        return self._store.shape[3]

    def _empty(self, rows: int, positions: int) -> Tensor:
        s = self.shape
        return torch.zeros(
            (s.layers, 2, rows, positions, s.heads, s.head_dim), dtype=s.dtype, device=s.device
        )

    def resize(self, keep: Tensor, *, rows: int, positions: int) -> None:
        """Move the rows `keep` to the front of a pool of another size."""
        old, self._store = self._store, self._empty(rows, positions)
        length = min(positions, old.shape[3])
        self._store[:, :, : len(keep), :length] = old[:, :, :, :length].index_select(2, keep)

    def copy(self, sources: Tensor, targets: Tensor, length: int) -> None:
        """Copy the first `length` positions between rows; no target may be a source."""
        self._store[:, :, targets, :length] = self._store[:, :, :, :length].index_select(2, sources)

    def clear(self) -> None:
        """Forget everything; zeros, because a NaN of older weights passes through a mask: 0 * NaN."""
        self._store.zero_()

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values [B, heads, Q, head_dim] and give all that the rows can see."""
        assert self.step is not None, "a forward pass without a step"
        return self._write(self._store[layer, 0], keys), self._write(self._store[layer, 1], values)

    def _write(self, store: Tensor, new: Tensor) -> Tensor:
        step = self.step
        assert step is not None
        flat = new.transpose(1, 2).reshape(-1, self.shape.heads, self.shape.head_dim)
        if step.source is not None:
            flat = flat.index_select(0, step.source)
        store.index_put_((step.write_rows, step.write_positions), flat)
        seen = store[:, : step.length]
        rows = seen[: new.shape[0]] if step.rows is None else seen.index_select(0, step.rows)
        return rows.transpose(1, 2)


class _PoolLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """One layer's window on a pool, in the shape that Hugging Face attention asks for."""

    def __init__(self, pool: KVPool, index: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._pool, self._index = pool, index

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        return self._pool.write(self._index, key_states, value_states)

    def get_seq_length(self) -> int:
        return 0 if self._pool.step is None else self._pool.step.length
