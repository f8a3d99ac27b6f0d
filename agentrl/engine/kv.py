"""Keys and values of many sequences, one row each."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agentrl.engine.pages import PAGE, Pages

log = logging.getLogger(__name__)

Ints = NDArray[np.int64]

KEY_BLOCK = 16
"""Attention reads keys in multiples of this: full vectors, so that what is masked adds exact zeros."""
WORTH_MAPPING = 2
"""A shared prefix that fills fewer pages is copied: that takes less time than to map them."""


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
    """Keys and values as one tensor [rows, layers, 2 heads, positions, head_dim], keys before values.

    Positions stand next to each other within a head: attention reads a run of rows where it stands. On a CPU,
    rows with a common prefix have it in the same pages of memory (see `Pages`), so that a fork copies only
    what fills no whole page, and whoever reads one row after the other finds the prefix in the cache.
    Elsewhere a fork is a copy. What stands beyond a row's length is stale but finite, and masked by who reads
    it. One more row than `rows` takes what nobody will read.
    """

    keys: list[Tensor]
    """Of each layer, [rows + 1, heads, positions, head_dim]."""
    values: list[Tensor]

    def __init__(self, shape: Shape, *, rows: int, positions: int) -> None:
        assert positions % KEY_BLOCK == 0, f"{positions} positions are no whole number of blocks"
        self.shape, self.rows, self.positions = shape, rows, positions
        self._heads = torch.arange(2 * shape.heads, device=shape.device)
        self._bytes = shape.head_dim * shape.dtype.itemsize
        self._allocate()

    def _allocate(self) -> None:
        s, self._pages = self.shape, None
        size = [self.rows + 1, s.layers, 2 * s.heads, self.positions, s.head_dim]
        if s.device.type == "cpu":
            size[3] = self._in_whole_pages(self.positions)
            self._pages = _pages(size[0], size[1] * size[2], size[3] * self._bytes)
        if self._pages is None:
            self._use(torch.zeros(size, dtype=s.dtype, device=s.device))
        else:
            self._use(torch.frombuffer(self._pages.memory, dtype=s.dtype).view(size))

    def _in_whole_pages(self, positions: int) -> int:
        """Round up to where a head's positions fill whole pages."""
        unit = PAGE // math.gcd(PAGE, self._bytes)
        return -(-positions // unit) * unit

    def _use(self, store: Tensor) -> None:
        self._store, heads = store, self.shape.heads
        flat = store.view(-1, self.shape.head_dim)
        in_layer = 2 * heads * store.shape[3]
        self._flat = [flat[i * in_layer :] for i in range(self.shape.layers)]
        self.keys = [store[:, i, :heads] for i in range(self.shape.layers)]
        self.values = [store[:, i, heads:] for i in range(self.shape.layers)]

    @property
    def allocated_bytes(self) -> int:
        """Memory in use; what rows share counts once."""
        pages = self._pages  # another thread may ask while the pool changes its size
        return self._store.nbytes if pages is None else pages.allocated_bytes

    def resize(self, keep: Ints, filled: Ints, *, rows: int, positions: int) -> None:
        """Move the rows `keep`, filled so far, to the front of a pool of another size."""
        old_pages, old = self._pages, self._store
        self.rows, self.positions = rows, positions
        self._allocate()
        for row, (before, length) in enumerate(zip(keep.tolist(), filled.tolist(), strict=True)):
            begin = 0
            if self._pages is not None and old_pages is not None and row:
                whole = np.minimum(filled[:row], length) * self._bytes // PAGE
                shared = np.minimum(old_pages.shared_pages(before, keep[:row]), whole)
                begin = self._share(int(shared.argmax()), row, int(shared.max()))
            self._store[row, :, :, begin:length] = old[before, :, :, begin:length]

    def fork(self, source: int, target: int, length: int) -> None:
        """Let a row begin with the first `length` positions of another one; what it held before is lost."""
        begin = self._share(source, target, length * self._bytes // PAGE)
        if not begin:
            self.own(target, 0)
        self._store[target, :, :, begin:length] = self._store[source, :, :, begin:length]

    def _share(self, source: int, target: int, pages: int) -> int:
        """Share so many pages if that is worth it; gives how many positions stand wholly in them."""
        if self._pages is None or pages < WORTH_MAPPING or not self._pages.can_share():
            return 0
        try:
            self._pages.share(source, target, pages)
        except OSError as error:
            log.warning("%s: a fork copies its keys and values", error)
            return 0
        return pages * PAGE // self._bytes

    def own(self, row: int, length: int) -> None:
        """Prepare a row to be written from position `length` on; no other row will see it."""
        page = length * self._bytes // PAGE
        if self._pages is None or not self._pages.is_shared(row, page):
            return
        part = self._store[row, :, :, page * PAGE // self._bytes : length]
        kept = part.clone()
        self._pages.own(row, page)
        part.copy_(kept)

    def wipe(self, row: int) -> None:
        """Forget a row that holds a NaN, which would pass through its next user's mask: 0 * NaN."""
        self.own(row, 0)
        self._store[row].zero_()

    def clear(self) -> None:
        """Forget everything; zeros, for the same reason."""
        if self._pages is None:
            self._store.zero_()
        else:
            self._pages.clear()

    def places(self, rows: Tensor, positions: Tensor) -> Tensor:
        """Where `write` puts the keys and values of T tokens, [T * 2 heads]."""
        layers, heads, length = self._store.shape[1:4]
        first = rows[:, None] * (layers * heads) + self._heads
        return (first * length + positions[:, None]).flatten()

    def write(self, layer: int, places: Tensor, pairs: Tensor) -> None:
        """Store keys and values of T tokens, [T, 2 heads, head_dim]."""
        self._flat[layer].index_copy_(0, places, pairs.reshape(-1, self.shape.head_dim))


def _pages(rows: int, pieces: int, piece_bytes: int) -> Pages | None:
    try:
        return Pages(rows=rows, pieces=pieces, piece_bytes=piece_bytes)
    except OSError as error:
        log.warning("no memory that rows can share (%s): forks copy their keys and values", error)
        return None
