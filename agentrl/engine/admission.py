"""Giving rows to requests: reuse of what a row holds, forks of shared prefixes, growth and eviction."""

from __future__ import annotations

from collections import deque

import numpy as np

from agentrl.engine.kv import KEY_BLOCK, KVPool, Shape
from agentrl.engine.requests import Request
from agentrl.engine.rows import FREE, IDLE, Match, Rows
from agentrl.errors import ConfigError

CAPACITY_ROWS = 256
"""Most requests in flight where nobody says otherwise."""
WORTH_SHARING = 8
"""A shared prefix of fewer tokens is computed again rather than copied or waited for."""


def rounded_up(positions: int) -> int:
    """Round up to whole blocks of keys.

    >>> rounded_up(9), rounded_up(16), rounded_up(33)
    (16, 16, 48)
    """
    return -(-positions // KEY_BLOCK) * KEY_BLOCK


def longer(need: int, max_context: int) -> int:
    """Positions of a pool whose rows must take `need` tokens.

    >>> longer(70, 1000), longer(600, 1000)
    (128, 1008)
    """
    return min(1 << (need - 1).bit_length(), rounded_up(max_context))


def kv_bytes_of(
    shape: Shape, *, requests: int, longest: int, max_context: int, capacity_rows: int = CAPACITY_ROWS
) -> int:
    """Most bytes of keys and values while so many requests of up to `longest` tokens are served at once.

    A pool that grows copies the old one, which is half as large.
    """
    rows = min(max(16, 1 << (requests - 1).bit_length()), capacity_rows)
    whole = (rows + 1) * longer(min(longest, max_context), max_context) * shape.bytes_per_position
    return whole + whole // 2


class Admission:
    """The queue of requests and the rows that they get, first come first served.

    A row is reserved for the longest that a request may become, so that nothing that runs is ever pushed out.
    """

    def __init__(self, shape: Shape, *, capacity_rows: int, max_context: int, kv_bytes: int) -> None:
        self.capacity_rows, self.max_context, self.kv_bytes = capacity_rows, max_context, kv_bytes
        positions = min(64, rounded_up(max_context))
        rows = max(1, min(capacity_rows, 16, kv_bytes // (positions * shape.bytes_per_position)))
        self.pool = KVPool(shape, rows=rows, positions=positions)
        self.rows = Rows(rows, positions)
        self.waiting: deque[Request] = deque()
        self.prefilled_tokens = 0
        self.reused_tokens = 0
        self._forks: list[tuple[int, int, int]] = []
        self._seen: dict[bytes, Match] = {}

    def refuse(self, request: Request) -> None:
        """Raise where a request could never be served."""
        need = rounded_up(request.limit) * self.pool.shape.bytes_per_position
        if need > self.kv_bytes:
            raise ConfigError(
                f"a context of {request.limit} tokens needs {need} bytes of keys and values,"
                f" kv_bytes={self.kv_bytes}: lower max_tokens or raise kv_bytes"
            )

    def admit(self, now: int) -> None:
        """Give rows to waiting requests until there is no room."""
        later: deque[Request] = deque()
        self._seen.clear()
        try:
            while self.waiting:
                request = self.waiting[0]  # it stays there while something may fail: nobody is forgotten
                match = self._match(request)
                if match.coming - match.ready >= WORTH_SHARING:
                    later.append(self.waiting.popleft())  # what it shares is computed in this very step
                elif self._place(request, match, now):
                    self.waiting.popleft()
                else:
                    break
            self._fork()
        finally:
            self.waiting.extendleft(reversed(later))

    def _match(self, request: Request) -> Match:
        """Search once a round for each prompt: the attempts of a group come together."""
        key = request.ids.tobytes()
        match = self._seen.get(key)
        if match is None:
            match = self._seen[key] = self.rows.match(request.ids)
        return match

    def _place(self, request: Request, match: Match, now: int) -> bool:
        if request.limit > self.pool.positions:
            if not self._lengthen(request.limit):
                return False
            match = self.rows.match(request.ids)
        ready = match.ready
        whole = ready > 0 and ready == self.rows.filled[match.row]
        if whole and self.rows.state[match.row] == IDLE:
            self._open(match.row, request, ready)
        else:
            row = self._new_row(now)
            if row is None:
                return False
            if row != match.row and ready < WORTH_SHARING:
                ready = 0
            if ready and row != match.row:
                self.rows.open(row, request, 0)
                self._forks.append((match.row, row, ready))
            else:
                self._open(row, request, ready)
        last = len(request.ids) - 1
        assert request.row is not None
        self._seen[request.ids.tobytes()] = Match(match.row if ready else request.row, ready, last)
        self.reused_tokens += ready
        self.prefilled_tokens += len(request.ids) - ready
        return True

    def _open(self, row: int, request: Request, ready: int) -> None:
        self.rows.open(row, request, ready)
        self.pool.own(row, ready)

    def _new_row(self, now: int) -> int | None:
        free = np.flatnonzero(self.rows.state == FREE)
        if not len(free) and self.pool.rows < self._allowed(self.pool.positions):
            rows = min(2 * self.pool.rows, self._allowed(self.pool.positions))
            self._resize(rows, self.pool.positions)
            free = np.flatnonzero(self.rows.state == FREE)
        if len(free):
            return int(free[0])
        row = self.rows.oldest_idle()
        if row is not None:
            self._seen.clear()  # a match with what is evicted now would be wrong
            if any(row == source for source, _, _ in self._forks):
                self._fork()
        return row

    def _fork(self) -> None:
        for source, target, length in self._forks:
            self.pool.fork(source, target, length)
            self.rows.filled[target] = length
        self._forks = []

    def _allowed(self, positions: int) -> int:
        return min(self.capacity_rows, self.kv_bytes // (positions * self.pool.shape.bytes_per_position))

    def _lengthen(self, need: int) -> bool:
        positions = longer(need, self.max_context)
        if not self._allowed(positions):
            positions = rounded_up(need)
        allowed = self._allowed(positions)
        if len(self.rows.live) >= allowed:
            return False
        self._resize(min(self.pool.rows, allowed), positions)
        return True

    def _resize(self, rows: int, positions: int) -> None:
        self._fork()
        self._seen.clear()
        keep = np.arange(self.pool.rows)
        if rows < self.pool.rows:  # the live rows and the latest idle ones stay
            rank = np.choose(self.rows.state, [-np.inf, self.rows.last_used, np.inf])
            keep = np.sort(np.argsort(-rank, kind="stable")[:rows])
        self.pool.resize(keep, self.rows.filled[keep], rows=rows, positions=positions)
        self.rows = self.rows.moved(keep, rows=rows, positions=positions)

    def forget(self) -> None:
        """Drop all keys and values; what is live will be computed again from its ids."""
        self.prefilled_tokens += int(self.rows.filled[self.rows.live].sum())
        self.pool.clear()
        self.rows.filled[:] = 0
        self.rows.state[self.rows.state == IDLE] = FREE
