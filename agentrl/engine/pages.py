"""Rows of memory that can begin with the same pages: a copy of a row costs neither time nor memory."""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PAGE = mmap.PAGESIZE
MAP_FIXED = 0x10
PUNCH_HOLE = 0x01 | 0x02
"""FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE: give pages of a file back, its size stays."""
REFUSALS = 256
"""With no mapping left, so many rows are copied before the next look."""
USUAL_MAPS = 65_530
"""Mappings that Linux grants a process where nobody changed `vm.max_map_count`."""
Ints = NDArray[np.int64]


class Pages:
    """Memory in which every row is one piece to those who read it, whatever pages it is made of.

    A row is `pieces` runs of bytes next to each other. Its pages are those of a file in memory, at the same
    place within a slot of the file, and the kernel shows one page in as many rows as share it. Nobody
    who reads or writes a row takes notice, so attention needs no table of pages; but who writes must `own`
    first what it writes.

    Args:
        rows: How many.
        pieces: Runs of bytes in a row.
        piece_bytes: Of each, a whole number of pages.

    Raises:
        OSError: The system has no files in memory.
    """

    def __init__(self, *, rows: int, pieces: int, piece_bytes: int) -> None:
        assert piece_bytes % PAGE == 0, f"{piece_bytes} bytes are no whole number of pages"
        self._rows, self._pieces, self._piece_bytes = rows, pieces, piece_bytes
        self._file = os.memfd_create("agentrl-kv")
        weakref.finalize(self, os.close, self._file)
        os.ftruncate(self._file, rows * self._row_bytes)
        self.memory = mmap.mmap(self._file, rows * self._row_bytes, flags=mmap.MAP_SHARED)
        self._base = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self._shares_left = 0
        self._refusals = 0
        self._begin()

    def _begin(self) -> None:
        pages = self._piece_bytes // PAGE
        self.slots: Ints = np.repeat(np.arange(self._rows)[:, None], pages, 1)
        self._users: Ints = np.ones((self._rows, pages), dtype=np.int64)

    @property
    def _row_bytes(self) -> int:
        return self._pieces * self._piece_bytes

    @property
    def allocated_bytes(self) -> int:
        """Memory in use: a shared page counts once, one that was never touched not at all."""
        return os.fstat(self._file).st_blocks * 512

    def shared_pages(self, row: int, others: Ints) -> Ints:
        """How many first pages of each piece `row` shares with each of `others`."""
        differ = self.slots[others] != self.slots[row]
        shared: Ints = np.where(differ.any(1), differ.argmax(1), differ.shape[1])
        return shared

    def can_share(self) -> bool:
        """Whether the kernel will map one more row's pages apart; looks now and then at what is left."""
        if self._refusals:
            self._refusals -= 1
            return False
        if not self._shares_left:
            # Others map pages, too: with up to 3 mappings for each piece, this takes at most a quarter.
            self._shares_left = (max_maps() - num_maps()) // (12 * self._pieces)
        if self._shares_left <= 0:
            self._shares_left, self._refusals = 0, REFUSALS
            return False
        self._shares_left -= 1
        return True

    def share(self, source: int, target: int, pages: int) -> None:
        """Let the first pages of each of the target's pieces be the source's; it owns the others."""
        self._point(target, 0, pages, self.slots[source, :pages].copy())
        self.own(target, pages)

    def is_shared(self, row: int, page: int) -> bool:
        """Whether another row has one of the row's pages from `page` on."""
        rest = np.arange(page, self.slots.shape[1])
        return bool((self._users[self.slots[row, page:], rest] > 1).any())

    def own(self, row: int, page: int) -> None:
        """Let the row's pages from `page` on be its own; what stood in those that it shared is lost."""
        if self.is_shared(row, page):
            pages = self.slots.shape[1]
            self._point(row, page, pages, np.full(pages - page, self._free_slot(row, page)))

    def clear(self) -> None:
        """Let every row own all of its pages, which are zero."""
        self._map(0, 0, self._rows * self._row_bytes)
        self._punch(0, os.fstat(self._file).st_size)
        self._begin()

    def _free_slot(self, row: int, page: int) -> int:
        """A slot of which nobody uses the pages from `page` on, the row's first one if possible."""
        if not self._users[row, page:].any():
            return row
        free = np.flatnonzero(~self._users[:, page:].any(1))
        if not len(free):
            free = np.array([len(self._users)])
            os.ftruncate(self._file, (len(self._users) + self._rows) * self._row_bytes)
            self._users = np.pad(self._users, ((0, self._rows), (0, 0)))
        return int(free[0])

    def _point(self, row: int, begin: int, end: int, slots: Ints) -> None:
        """Let a row's pages begin..end-1 be those of the slots, and give back what nobody uses any more."""
        places, old = np.arange(begin, end), self.slots[row, begin:end].copy()
        try:
            self._show(row, slots, begin)
        except OSError:
            self._show(row, old, begin)
            raise
        self._users[slots, places] += 1
        self._users[old, places] -= 1
        self.slots[row, begin:end] = slots
        unused = np.where(self._users[old, places] == 0, old, -1)
        for slot, first, last in _runs(unused, begin):
            for _, there, length in self._stretches(row, slot, first, last) if slot >= 0 else ():
                self._punch(there, length)

    def _show(self, row: int, slots: Ints, begin: int) -> None:
        for slot, first, last in _runs(slots, begin):
            for here, there, length in self._stretches(row, slot, first, last):
                self._map(here, there, length)

    def _stretches(self, row: int, slot: int, first: int, last: int) -> list[tuple[int, int, int]]:
        """Where in memory, where in the file, and how many bytes: one of each piece, or all in one."""
        here, there = row * self._row_bytes, slot * self._row_bytes
        if (last - first) * PAGE == self._piece_bytes:
            return [(here, there, self._row_bytes)]
        starts = range(first * PAGE, self._row_bytes, self._piece_bytes)
        return [(here + s, there + s, (last - first) * PAGE) for s in starts]

    def _map(self, here: int, there: int, length: int) -> None:
        at = self._base + here
        access = mmap.PROT_READ | mmap.PROT_WRITE
        if _LIBC.mmap(at, length, access, mmap.MAP_SHARED | MAP_FIXED, self._file, there) != at:
            raise OSError(ctypes.get_errno(), "cannot map pages of keys and values")

    def _punch(self, there: int, length: int) -> None:
        if _LIBC.fallocate(self._file, PUNCH_HOLE, there, length):
            raise OSError(ctypes.get_errno(), "cannot give pages of keys and values back")


def _runs(values: Ints, begin: int) -> list[tuple[int, int, int]]:
    """Give each run of equal values as (value, first, last + 1), counted from `begin`.

    >>> _runs(np.array([7, 7, 3]), 10)
    [(7, 10, 12), (3, 12, 13)]
    """
    if not len(values):
        return []
    cuts = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return [(int(values[a]), begin + a, begin + b) for a, b in zip(cuts[:-1], cuts[1:], strict=True)]


def max_maps() -> int:
    """Give how many mappings a process may have."""
    try:
        return int(Path("/proc/sys/vm/max_map_count").read_text())
    except (OSError, ValueError):
        return USUAL_MAPS


def num_maps() -> int:
    """Give how many this process has; as many as are allowed where the system does not say."""
    try:
        return Path("/proc/self/maps").read_bytes().count(b"\n")
    except OSError:
        return max_maps()


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    size, offset = ctypes.c_size_t, ctypes.c_int64
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, size, *[ctypes.c_int] * 3, offset]
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, offset, offset]
    return libc


_LIBC = _libc()
