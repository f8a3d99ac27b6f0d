"""Rows in one sequence: what rows begin with in common stands there once.

Rows are sorted, so that the longest beginning that a row shares with any earlier one is shared with the row
just before it; what comes after it is the row's own part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agentrl.trainers.batch import Row

Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Packed:
    """Rows one behind the other in one sequence of T tokens.

    >>> def row(*ids: int) -> Row:
    ...     return Row(ids=np.array(ids), positions=np.array([len(ids) - 2]))
    >>> packed = pack([row(5, 6, 7, 0), row(5, 6, 8, 0)], shared=True)
    >>> packed.ids_T.tolist(), packed.positions_T.tolist()
    ([5, 6, 7, 8], [0, 1, 2, 2])
    >>> [place.tolist() for place in packed.places], packed.begins
    ([[0, 1, 2], [0, 1, 3]], [0, 2])
    """

    ids_T: Index
    positions_T: Index
    """Distance of each token from the beginning of its row."""
    places: list[Index]
    """Where each row's tokens stand in the sequence; its last token predicts nothing and is left out."""
    begins: list[int]
    """How many tokens of each row stand there for another row already."""


def sort_key(row: Row) -> bytes:
    """Give what sorts rows so that common beginnings meet."""
    return row.ids[:-1].astype(">u4").tobytes()


def num_common(row: Row, other: Row) -> int:
    """How many tokens two rows have in common from their beginnings, their last ones left out.

    >>> def row(*ids: int) -> Row:
    ...     return Row(ids=np.array(ids), positions=np.array([0]))
    >>> num_common(row(1, 2, 3, 4), row(1, 2, 5, 4)), num_common(row(1, 2, 3), row(1, 2, 3))
    (2, 2)
    """
    width = min(len(row), len(other)) - 1
    differs = row.ids[:width] != other.ids[:width]
    first = int(differs.argmax()) if width else 0
    return first if width and differs[first] else width


def pack(rows: Sequence[Row], *, shared: bool) -> Packed:
    """Put rows into one sequence.

    Args:
        rows: At least one; places and begins come in their order.
        shared: Whether a common beginning stands there once.
    """
    order = sorted(range(len(rows)), key=lambda i: sort_key(rows[i])) if shared else list(range(len(rows)))
    places: list[Index] = [np.zeros(0, np.int64)] * len(rows)
    begins = [0] * len(rows)
    own: list[Index] = []
    count = 0
    for before, index in zip([None, *order], order, strict=False):
        row, width = rows[index], len(rows[index]) - 1
        begin = num_common(rows[before], row) if shared and before is not None else 0
        fresh = np.arange(count, count + width - begin)
        places[index] = np.concatenate([places[before][:begin], fresh]) if begin else fresh  # type: ignore[index]
        begins[index] = begin
        own.append(row.ids[begin:width])
        count += width - begin
    ids_T = np.concatenate(own).astype(np.int64)
    positions_T = np.empty(count, np.int64)
    for place in places:
        positions_T[place] = np.arange(len(place))
    return Packed(ids_T=ids_T, positions_T=positions_T, places=places, begins=begins)
