"""What one step feeds: one token of each row that samples, and parts of prompts beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agentrl.engine.rows import Ints, Rows


class Span(NamedTuple):
    """Tokens begin..end-1 of a feed, which one attention call serves.

    Token begin + i belongs to row + i, or with `one_row` all of them to `row`, at successive positions.
    """

    begin: int
    end: int
    row: int
    one_row: bool
    length: int
    """Keys that the furthest of them sees."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Feed:
    """T tokens for one forward pass."""

    ids: NDArray[np.int64]
    rows: Ints
    positions: Ints
    spans: list[Span]
    taken: Ints
    """Rows that got tokens, [R]."""
    counts: Ints
    """How many each of them got, [R]."""
    sampled: Ints
    """Rows whose last known token is among them, [S]."""
    last: Ints
    """Where in the feed that token stands, [S]."""


def compose(rows: Rows, *, budget: int, turn: int, call_cost: int) -> Feed:
    """Choose at most `budget` tokens: one of each live row, then more of the rows that have unfed tokens.

    Rows that sample come first, so that prompts never hold them up; with more live rows than budget they take
    turns.

    Args:
        call_cost: What one more attention call costs, in keys read: neighbouring rows of unlike length are
            read apart if that saves more.
    """
    live = rows.live
    if len(live) > budget:
        live = np.sort(np.roll(live, -budget * turn)[:budget])
    missing = rows.known[live] - rows.filled[live]
    room = budget - len(live)
    before = np.cumsum(missing - 1) - (missing - 1)
    counts = 1 + np.minimum(missing - 1, np.maximum(room - before, 0))
    order = np.argsort(counts > 1, kind="stable")
    live, missing, counts = live[order], missing[order], counts[order]
    ends = np.cumsum(counts)
    token_rows = np.repeat(live, counts)
    begins = np.repeat(ends - counts, counts)
    positions = np.repeat(rows.filled[live], counts) + np.arange(len(token_rows)) - begins
    ready = counts == missing
    return Feed(
        ids=rows.ids[token_rows, positions].astype(np.int64),
        rows=token_rows,
        positions=positions,
        spans=_spans(live, counts, ends, rows.filled[live] + counts, call_cost),
        taken=live,
        counts=counts,
        sampled=live[ready],
        last=ends[ready] - 1,
    )


def _spans(live: Ints, counts: Ints, ends: Ints, lengths: Ints, call_cost: int) -> list[Span]:
    singles = int((counts == 1).sum())
    spans = _runs(live[:singles].tolist(), lengths[:singles].tolist(), call_cost)
    for i in range(singles, len(live)):
        end = int(ends[i])
        spans.append(Span(end - int(counts[i]), end, int(live[i]), True, int(lengths[i])))
    return spans


def _runs(live: list[int], lengths: list[int], call_cost: int) -> list[Span]:
    """Join neighbouring rows as long as reading them to the longest one's end costs less than a call.

    >>> [(s.begin, s.end, s.row, s.length) for s in _runs([0, 1, 2, 5], [40, 48, 900, 50], 192)]
    [(0, 2, 0, 48), (2, 3, 2, 900), (3, 4, 5, 50)]
    """
    spans: list[Span] = []
    begin = longest = 0
    for i, length in enumerate(lengths):
        count, grown = i - begin, max(longest, length)
        apart = count * longest + length + call_cost
        if i and (live[i] != live[i - 1] + 1 or (count + 1) * grown > apart):
            spans.append(Span(begin, i, live[begin], False, longest))
            begin, grown = i, length
        longest = grown
    return [*spans, Span(begin, len(live), live[begin], False, longest)] if live else spans
