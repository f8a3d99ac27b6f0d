"""What each row of the key-value pool holds: ids, progress, settings and columns, as arrays over rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agentrl.engine.requests import Request
from agentrl.engine.sampling import signed64
from agentrl.episode import Columns, Ids

FREE, IDLE, LIVE = 0, 1, 2
Ints = NDArray[np.int64]

_PER_ROW: dict[str, tuple[Any, Any]] = {
    "state": (np.int8, FREE),
    "known": (np.int64, 0),
    "filled": (np.int64, 0),
    "start": (np.int64, 0),
    "limit": (np.int64, 0),
    "seed": (np.int64, 0),
    "last_used": (np.int64, 0),
    "digest": (np.uint64, 0),
    "temperature": (np.float32, 1.0),
    "top_p": (np.float32, 1.0),
    "top_k": (np.int64, 0),
    "strings": (np.bool_, False),
}
_PER_TOKEN: dict[str, tuple[Any, Any]] = {
    "ids": (np.int32, -1),
    "logp": (np.float32, 0),
    "untempered": (np.float32, 0),
    "entropy": (np.float32, 0),
    "version": (np.int32, 0),
}


_BASE = 0x9E3779B97F4A7C15


class Match(NamedTuple):
    """The row that shares most of a prompt."""

    row: int
    ready: int
    """Tokens of the shared prefix whose keys and values are there."""
    coming: int
    """Tokens of the longest shared prefix that some row holds or is about to compute."""


class Rows:
    """Arrays over rows; row i is row i of the pool.

    `ids[row, :known]` are the tokens of its sequence; the first `filled` of them have keys and values. A row
    is FREE, LIVE (a request works on it) or IDLE (kept for a request that goes on with the same tokens).
    """

    state: NDArray[np.int8]
    known: Ints
    filled: Ints
    start: Ints
    limit: Ints
    seed: Ints
    last_used: Ints
    digest: NDArray[np.uint64]
    """Of all known ids of an idle row."""
    temperature: NDArray[np.float32]
    top_p: NDArray[np.float32]
    top_k: Ints
    strings: NDArray[np.bool_]
    ids: Ids
    logp: NDArray[np.float32]
    untempered: NDArray[np.float32]
    entropy: NDArray[np.float32]
    version: Ids

    def __init__(self, rows: int, positions: int) -> None:
        self.requests: list[Request | None] = [None] * rows
        self.stops = np.full((rows, 1), -1, dtype=np.int64)
        self._powers = np.full(positions, _BASE, dtype=np.uint64).cumprod(dtype=np.uint64)
        for name, (dtype, fill) in _PER_ROW.items():
            setattr(self, name, np.full(rows, fill, dtype=dtype))
        for name, (dtype, fill) in _PER_TOKEN.items():
            setattr(self, name, np.full((rows, positions), fill, dtype=dtype))

    @property
    def live(self) -> Ints:
        """Rows that a request works on."""
        return np.flatnonzero(self.state == LIVE)

    def moved(self, keep: Ints, *, rows: int, positions: int) -> Rows:
        """Give the same content with the rows `keep` at the front of arrays of another size."""
        new = Rows(rows, positions)
        for name in _PER_ROW:
            getattr(new, name)[: len(keep)] = getattr(self, name)[keep]
        width = min(positions, self.ids.shape[1])
        for name in _PER_TOKEN:
            getattr(new, name)[: len(keep), :width] = getattr(self, name)[keep, :width]
        new.stops = np.full((rows, self.stops.shape[1]), -1, dtype=np.int64)
        new.stops[: len(keep)] = self.stops[keep]
        for i, old in enumerate(keep):
            request = new.requests[i] = self.requests[old]
            if request is not None:
                request.row = i
        return new

    def match(self, ids: Ids) -> Match:
        """Find the row with the longest ready prefix of `ids`; at least one token is left to be fed."""
        last, ids = len(ids) - 1, ids[: self.ids.shape[1]]
        row = self._continued(ids)
        if row is not None:
            ready = int(min(self.filled[row], last))
            return Match(row, ready, ready)
        used = np.flatnonzero(self.state != FREE)
        if not len(used):
            return Match(-1, 0, 0)
        same = self.ids[used, : len(ids)] == ids
        shared = np.where(same.all(1), len(ids), same.argmin(1)).clip(max=last)
        ready_of = np.minimum(shared, self.filled[used])
        # Of equally good rows an idle one is taken over in place, without a copy.
        best = int((2 * ready_of + (self.state[used] == IDLE)).argmax())
        return Match(int(used[best]), int(ready_of[best]), int(shared.max()))

    def _continued(self, ids: Ids) -> int | None:
        """The idle row with the longest content that `ids` goes on from: a next turn needs no full search."""
        digests = self._digests(ids)
        candidates = np.flatnonzero(self.state == IDLE)
        candidates = candidates[self.known[candidates] <= len(ids)]
        lengths = self.known[candidates]
        equal = self.digest[candidates] == digests[lengths - 1]
        if not equal.any():
            return None
        best = int(np.where(equal, lengths, 0).argmax())
        row, length = int(candidates[best]), int(lengths[best])
        return row if np.array_equal(self.ids[row, :length], ids[:length]) else None

    def _digests(self, ids: Ids) -> NDArray[np.uint64]:
        """A polynomial hash of each non-empty prefix."""
        return np.cumsum((ids + 1).astype(np.uint64) * self._powers[: len(ids)], dtype=np.uint64)

    def oldest_idle(self) -> int | None:
        """The idle row that was used longest ago."""
        idle = np.flatnonzero(self.state == IDLE)
        return int(idle[self.last_used[idle].argmin()]) if len(idle) else None

    def open(self, row: int, request: Request, filled: int) -> None:
        """Let a request work on a row whose first `filled` positions already hold its prefix."""
        length, sampling = len(request.ids), request.sampling
        self.ids[row, :length], self.ids[row, length:] = request.ids, -1
        self.known[row], self.filled[row], self.start[row] = length, filled, length
        self.limit[row], self.seed[row] = request.limit, signed64(request.seed)
        self.temperature[row], self.top_p[row] = sampling.temperature, sampling.top_p
        self.top_k[row], self.strings[row] = sampling.top_k, bool(sampling.stop_strings)
        self._set_stops(row, sorted(sampling.stop_ids))
        self.state[row], self.requests[row], request.row = LIVE, request, row

    def _set_stops(self, row: int, stops: list[int]) -> None:
        missing = len(stops) - self.stops.shape[1]
        if missing > 0:
            self.stops = np.pad(self.stops, ((0, 0), (0, missing)), constant_values=-1)
        self.stops[row, : len(stops)], self.stops[row, len(stops) :] = stops, -1

    def release(self, row: int, now: int, *, keep: bool) -> None:
        """End the work on a row and keep its content for later, or not."""
        request = self.requests[row]
        if request is not None:
            request.row, self.requests[row] = None, None
        self.state[row], self.last_used[row] = (IDLE if keep else FREE), now
        # What was never fed will not be fed now: nobody may wait for it.
        self.known[row] = min(self.known[row], self.filled[row] + 1)
        self.ids[row, self.known[row] :] = -1
        self.digest[row] = self._digests(self.ids[row, : self.known[row]])[-1]

    def columns(self, row: int, part: slice) -> Columns:
        """Copy the columns of some tokens."""
        return Columns(
            logp=self.logp[row, part].copy(),
            untempered=self.untempered[row, part].copy(),
            entropy=self.entropy[row, part].copy(),
            version=self.version[row, part].copy(),
        )
