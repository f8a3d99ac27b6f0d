"""Attention over packed rows: no row sees another, and a shared beginning is attended to where it stands.

A tile is a small batch of like pieces: the queries of some rows' own parts and the keys of everything before
them. Between the attention layers the tokens lie one behind the other without padding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from agentrl.trainers.passes.prefixes import Index, Packed

WASTE = 1.25
"""Largest ratio of a tile's area to what is needed of it."""
SMALL_AREA = 2**14
"""Pairs of query and key below which another tile costs more than padding."""
LARGE_AREA = 2**24
"""Most pairs of a tile of several rows: bounds the masks."""
HALVED = 64
"""Queries from which a masked tile is attended in halves on a CPU: its kernel computes what is masked."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tile:
    """Shape of a batch of pieces, and who sees what in it."""

    size: int
    num_queries: int
    num_keys: int
    mask: Tensor | None
    """[B, 1, Q, K], 0 where a query sees a key, else -inf; None: causal over one and the same tokens."""

    @property
    def parts(self) -> list[tuple[int, int, int]]:
        """Runs of queries (first, last + 1) and the keys they need: a first half sees none of the second."""
        queries, keys = self.num_queries, self.num_keys
        if self.mask is None or self.mask.is_cuda or queries < HALVED:
            return [(0, queries, keys)]
        middle = queries // 2
        return [(0, middle, keys - queries + middle), (middle, queries, keys)]

    @property
    def area(self) -> int:
        """Pairs of query and key that are computed."""
        return self.size * sum((end - begin) * keys for begin, end, keys in self.parts)

    def attend(self, query_QHD: Tensor, key_KGD: Tensor, value_KGD: Tensor, *, scale: float | None) -> Tensor:
        """Give the attention of the tile's pieces, one behind the other, [B * Q, H, D]."""
        query_BHQD, key_BGKD, value_BGKD = (
            x.view(self.size, -1, *x.shape[1:]).transpose(1, 2) for x in (query_QHD, key_KGD, value_KGD)
        )
        found = [
            scaled_dot_product_attention(
                query_BHQD[:, :, begin:end],
                key_BGKD[:, :, :seen],
                value_BGKD[:, :, :seen],
                attn_mask=None
                if self.mask is None
                else self.mask[:, :, begin:end, :seen].to(query_QHD.dtype),
                is_causal=self.mask is None,
                scale=scale,
                enable_gqa=query_BHQD.shape[1] > key_BGKD.shape[1],
            ).transpose(1, 2)
            for begin, end, seen in self.parts
        ]
        return (found[0] if len(found) == 1 else torch.cat(found, 1)).flatten(0, 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tiles:
    """All tiles of a packed sequence of T tokens, and how tokens come into them and back."""

    tiles: tuple[Tile, ...]
    queries: Tensor
    """Which token each query of each tile is."""
    keys: Tensor
    back_T: Tensor
    """Where each token's result stands among the queries."""

    def to(self, device: torch.device) -> Tiles:
        """Give the same on another device."""
        tiles = tuple(
            Tile(
                size=t.size,
                num_queries=t.num_queries,
                num_keys=t.num_keys,
                mask=None if t.mask is None else t.mask.to(device),
            )
            for t in self.tiles
        )
        return Tiles(
            tiles=tiles,
            queries=self.queries.to(device),
            keys=self.keys.to(device),
            back_T=self.back_T.to(device),
        )

    def attend(self, query_HTD: Tensor, key_GTD: Tensor, value_GTD: Tensor, *, scale: float | None) -> Tensor:
        """Give the attention of every token to its own row, [T, H, D].

        Args:
            query_HTD: H heads.
            key_GTD: G heads, each of which serves H / G heads of queries.
            value_GTD: Likewise; its width may be another one.
            scale: Of the scores; None: 1 / sqrt(D).
        """
        queries = self._spread(query_HTD, self.queries, [t.size * t.num_queries for t in self.tiles])
        sizes = [t.size * t.num_keys for t in self.tiles]
        keys, values = self._spread(key_GTD, self.keys, sizes), self._spread(value_GTD, self.keys, sizes)
        share = query_HTD.shape[0] // key_GTD.shape[0]
        results = []
        for tile, query, key, value in zip(self.tiles, queries, keys, values, strict=True):
            if key.is_cuda and tile.mask is not None:  # no CUDA kernel takes a mask and groups of heads
                key, value = (x.repeat_interleave(share, dim=1) for x in (key, value))
            results.append(tile.attend(query, key, value, scale=scale))
        return torch.cat(results).index_select(0, self.back_T)

    @staticmethod
    def _spread(value_HTD: Tensor, index: Tensor, sizes: list[int]) -> tuple[Tensor, ...]:
        # One gather for all tiles: the gradient of each gather is as large as the whole sequence.
        return torch.split(value_HTD.transpose(0, 1).index_select(0, index), sizes)


def make_tiles(packed: Packed) -> Tiles:
    """Cut the attention of packed rows into tiles."""
    pieces = [i for i, place in enumerate(packed.places) if len(place) > packed.begins[i]]
    begins, lengths = packed.begins, [len(place) for place in packed.places]

    def gather(members: list[int]) -> list[list[int]]:
        members.sort(key=lambda i: (begins[i], lengths[i]), reverse=True)
        return _alike(members, lambda i: (lengths[i] - begins[i], begins[i]))

    batches = gather([i for i in pieces if not begins[i]]) + gather([i for i in pieces if begins[i]])
    made = [_tile(batch, packed) for batch in batches]
    starts = np.cumsum([0] + [queries.size for _, queries, _ in made])
    back_T = np.empty(len(packed.ids_T), np.int64)
    for batch, start, (_, queries, _) in zip(batches, starts, made, strict=False):
        for line, index in enumerate(batch):
            own = packed.places[index][begins[index] :]
            back_T[own] = start + line * queries.shape[1] + np.arange(len(own))
    return Tiles(
        tiles=tuple(tile for tile, _, _ in made),
        queries=torch.from_numpy(np.concatenate([q.ravel() for _, q, _ in made])),
        keys=torch.from_numpy(np.concatenate([k.ravel() for _, _, k in made])),
        back_T=torch.from_numpy(back_T),
    )


def _alike(members: Sequence[int], shape: Callable[[int], tuple[int, int]]) -> list[list[int]]:
    """Cut sorted pieces into batches of little waste; `shape` gives (own tokens, tokens before)."""
    batches: list[list[int]] = []
    width = before = needed = 0
    for index in members:
        own, prefix = shape(index)
        wider, longer = max(width, own), max(before, prefix)
        area = (len(batches[-1]) + 1) * wider * (wider + longer) if batches else 0
        real = needed + own * (own + prefix)
        if not batches or area > LARGE_AREA or area > max(WASTE * real, SMALL_AREA):
            batches.append([])
            wider, longer, real = own, prefix, own * (own + prefix)
        batches[-1].append(index)
        width, before, needed = wider, longer, real
    return batches


def _tile(batch: list[int], packed: Packed) -> tuple[Tile, Index, Index]:
    """Make a tile; gives it with the tokens of its queries [B, Q] and keys [B, K].

    Keys are the tokens before a piece, aligned on the right, then the piece's own, which are the queries too.
    """
    begins = np.array([packed.begins[i] for i in batch])
    owns = [packed.places[i][packed.begins[i] :] for i in batch]
    width, before = max(map(len, owns)), int(begins.max())
    # Padding is a token of the same row: a masked NaN is still a NaN, and must not come from another one.
    first = np.array([[packed.places[i][0]] for i in batch])
    queries, prefixes = first.repeat(width, axis=1), first.repeat(before, axis=1)
    for line, index in enumerate(batch):
        queries[line, : len(owns[line])] = owns[line]
        prefixes[line, before - begins[line] :] = packed.places[index][: begins[line]]
    if not before:
        return Tile(size=len(batch), num_queries=width, num_keys=width, mask=None), queries, queries
    hidden = np.empty((len(batch), 1, width, before + width), np.bool_)
    hidden[..., :before] = (np.arange(before) < before - begins[:, None])[:, None, None, :]
    hidden[..., before:] = ~np.tri(width, dtype=np.bool_)
    mask = np.where(hidden, np.float32(-np.inf), np.float32(0))  # once, not in every layer
    tile = Tile(size=len(batch), num_queries=width, num_keys=before + width, mask=torch.from_numpy(mask))
    return tile, queries, np.concatenate([prefixes, queries], axis=1)
