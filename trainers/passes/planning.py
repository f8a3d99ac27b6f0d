"""How rows go through the model: padded side by side, packed, or packed with beginnings shared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from agentrl.trainers.batch import Row
from agentrl.trainers.passes.prefixes import num_common, pack, sort_key
from agentrl.trainers.passes.tiles import Tiles, make_tiles

Path = Literal["auto", "padded", "packed", "shared"]
Units = Sequence[Sequence[int]]
"""Rows that must not be separated, as indices."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pass:
    """One call of the model: B rows of T tokens, or one packed sequence of T tokens."""

    rows: list[int]
    """Which rows it scores."""
    longest: int
    """Tokens of the longest of them, the last one left out, which predicts nothing."""
    ids_BT: Tensor
    positions_BT: Tensor | None = None
    """None: each row counts from 0."""
    tiles: Tiles | None = None
    """Attention of a packed sequence."""
    scored_U: Tensor
    """Places in the flattened ids whose next token is scored."""
    target_U: Tensor
    expand_N: Tensor | None = None
    """Which of the scored stands for each trained token of the rows; None: each for itself."""

    @property
    def num_tokens(self) -> int:
        """Tokens that the layers see, padding included."""
        return self.ids_BT.numel()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Rough cost of passes, to compare paths by; in floating point operations of a large matrix product."""

    token: float
    """Of the layers for a token."""
    pair: float
    """Of attention for a query and a key."""
    gather: float
    """Of bringing a token into a tile and back."""
    pass_: float
    tile: float

    @classmethod
    def of(cls, model: nn.Module) -> Cost:
        """Estimate for a model; attention runs at half the speed of a large product, and calls take time."""
        config: Any = model.config.get_text_config()  # type: ignore[union-attr, operator]
        layers, heads = config.num_hidden_layers, getattr(config, "num_attention_heads", 1)
        width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
        call = 2e6 if next(model.parameters()).device.type == "cpu" else 2e8
        return cls(
            token=2.0 * layer_parameters(model),
            pair=8.0 * layers * width,
            gather=40.0 * layers * width,
            pass_=10 * call * layers,
            tile=call * layers,
        )

    def __call__(self, passes: Sequence[Pass]) -> float:
        """Add up the cost of packed passes."""
        total = 0.0
        for one in passes:
            assert one.tiles is not None
            total += self.pass_ + self.token * one.num_tokens + self.tile * len(one.tiles.tiles)
            total += self.pair * sum(t.area for t in one.tiles.tiles)
            total += self.gather * (len(one.tiles.queries) + len(one.tiles.keys))
        return total

    def padded(self, widths: Sequence[tuple[int, int]]) -> float:
        """Add up the cost of padded passes of (rows, width)."""
        return sum(self.pass_ + b * w * (self.token + self.pair * w) for b, w in widths)


def layer_parameters(model: nn.Module) -> int:
    """Count the weights that every token is multiplied with, embeddings and output head aside."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    head = model.get_output_embeddings()  # type: ignore[operator]
    tables.add(id(head.weight))
    return sum(p.numel() for p in model.parameters() if p.ndim >= 2 and id(p) not in tables)


def padded_buckets(
    rows: Sequence[Row], units: Units, *, max_tokens: int, max_padding: float = 0.15
) -> list[list[int]]:
    """Cut rows into buckets of like length; gives indices.

    Args:
        rows: In any order.
        units: What stays together.
        max_tokens: Most tokens of a bucket, padding included; a larger unit stands alone.
        max_padding: Largest share of padding in a bucket of an eighth of `max_tokens` or more; in smaller
            ones padding costs less than another pass.

    >>> def row(length: int) -> Row:
    ...     return Row(ids=np.zeros(length, np.int64), positions=np.zeros(0, np.int64))
    >>> padded_buckets([row(9), row(2), row(8)], [[0], [1], [2]], max_tokens=20)
    [[0, 2], [1]]
    """
    widest = [max(len(rows[i]) for i in unit) for unit in units]
    buckets: list[list[int]] = []
    width = real = 0
    for place in sorted(range(len(units)), key=lambda u: -widest[u]):
        unit = units[place]
        size = sum(len(rows[i]) for i in unit)
        padded = width * (len(buckets[-1]) + len(unit)) if buckets else 0
        real += size
        wasteful = padded * 8 > max_tokens and real < (1 - max_padding) * padded
        if not buckets or padded > max_tokens or wasteful:
            buckets.append([])
            width, real = widest[place], size
        buckets[-1] += unit
    return buckets


def packed_buckets(rows: Sequence[Row], units: Units, *, max_tokens: int, shared: bool) -> list[list[int]]:
    """Cut rows into sequences of at most `max_tokens`, common beginnings together; gives indices."""
    members = [sorted(unit, key=lambda i: sort_key(rows[i])) if shared else list(unit) for unit in units]
    if shared:
        members.sort(key=lambda unit: sort_key(rows[unit[0]]))
    buckets: list[list[int]] = []
    size = 0
    before: int | None = None
    for unit in members:
        fresh = _num_fresh(rows, unit, before if shared else None, shared)
        if not buckets or size + fresh > max_tokens:
            buckets.append([])
            size, fresh = 0, _num_fresh(rows, unit, None, shared)
        buckets[-1] += unit
        size += fresh
        before = unit[-1]
    return buckets


def _num_fresh(rows: Sequence[Row], unit: Sequence[int], before: int | None, shared: bool) -> int:
    total = 0
    for index in unit:
        common = num_common(rows[before], rows[index]) if shared and before is not None else 0
        total += len(rows[index]) - 1 - common
        before = index
    return total


def padded_pass(rows: Sequence[Row], chosen: list[int]) -> Pass:
    """Lay rows side by side, padded on the right with their own first tokens, where no real token looks."""
    members = [rows[i] for i in chosen]
    width = max(map(len, members)) - 1
    ids_BT = np.array([row.ids[:1] for row in members], dtype=np.int64).repeat(width, axis=1)
    for line, row in zip(ids_BT, members, strict=True):
        line[: len(row) - 1] = row.ids[:-1]
    scored = np.concatenate([b * width + row.positions for b, row in enumerate(members)])
    targets = np.concatenate([row.targets for row in members])
    return Pass(
        rows=chosen,
        longest=width,
        ids_BT=torch.from_numpy(ids_BT),
        scored_U=torch.from_numpy(scored),
        target_U=torch.from_numpy(targets),
    )


def packed_pass(rows: Sequence[Row], chosen: list[int], *, shared: bool) -> Pass:
    """Lay rows one behind the other; shared, the same token after the same beginning is scored once."""
    members = [rows[i] for i in chosen]
    packed = pack(members, shared=shared)
    scored = np.concatenate([p[row.positions] for p, row in zip(packed.places, members, strict=True)])
    targets = np.concatenate([row.targets for row in members])
    expand = None
    if shared:
        pairs = np.stack([scored, targets])
        (scored, targets), back = np.unique(pairs, axis=1, return_inverse=True)
        expand = torch.from_numpy(back.reshape(-1))
    return Pass(
        rows=chosen,
        longest=max(map(len, packed.places)),
        ids_BT=torch.from_numpy(packed.ids_T)[None],
        positions_BT=torch.from_numpy(packed.positions_T)[None],
        tiles=make_tiles(packed),
        scored_U=torch.from_numpy(scored),
        target_U=torch.from_numpy(targets),
        expand_N=expand,
    )


def plan_passes(rows: Sequence[Row], units: Units, *, max_tokens: int, path: Path, cost: Cost) -> list[Pass]:
    """Cut rows into passes of at most `max_tokens`, where a unit allows it.

    Args:
        rows: Each with at least one trained token.
        units: What stays together in one pass.
        max_tokens: Most tokens of a pass: of padded ones padding counts, of shared ones a token counts once.
        path: `auto` takes the cheaper of `padded` and `shared`.
        cost: What to compare them by.
    """
    buckets = padded_buckets(rows, units, max_tokens=max_tokens)
    if path != "padded":
        shared = path != "packed"
        packs = packed_buckets(rows, units, max_tokens=max_tokens, shared=shared)
        packed = [packed_pass(rows, chosen, shared=shared) for chosen in packs]
        widths = [(len(b), max(len(rows[i]) for i in b) - 1) for b in buckets]
        if path != "auto" or cost(packed) < cost.padded(widths):
            return packed
    return [padded_pass(rows, chosen) for chosen in buckets]
