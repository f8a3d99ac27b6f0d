"""What the processes of a sandbox use together, as the zygote sees it in /proc."""

import contextlib
import os
import resource
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

_PAGE = resource.getpagesize()
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    """One process; `started` tells it from an earlier one of the same number."""

    pid: int
    parent: int
    started: int
    own_cpu_seconds: float
    waited_cpu_seconds: float
    """Of the children that it waited for."""
    threads: int
    resident_bytes: int


def _read(pid: int) -> Process | None:
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return None
    try:
        fields = os.read(descriptor, 1024).rpartition(b")")[2].split()
    except OSError:
        return None
    finally:
        os.close(descriptor)
    own, waited = (sum(map(int, fields[at : at + 2])) / _TICKS for at in (11, 13))
    threads, pages = int(fields[17]), int(fields[21])
    if fields[0] == b"Z" and threads > 1:
        pages = _pages_of_a_thread(pid)
    return Process(pid, int(fields[1]), int(fields[19]), own, waited, threads, pages * _PAGE)


def _pages_of_a_thread(pid: int) -> int:
    """What a process keeps in memory whose first thread has ended."""
    try:
        with open(f"{_living(pid)}/statm", "rb") as file:
            return int(file.read().split()[1])
    except (OSError, ValueError):
        return 0


class CpuTotal:
    """What a tree has used, with processes that are gone although nobody waited for them.

    What those used after they were last seen is missed.
    """

    def __init__(self) -> None:
        self._seen: list[Process] = []
        self._inherited: defaultdict[int, float] = defaultdict(float)

    def add(self, tree: list[Process]) -> float:
        """CPU seconds up to now; `tree` as `trees` gives it, each parent before its children."""
        living = {(process.pid, process.started) for process in tree}
        known = {process.pid for process in self._seen}
        for process in reversed(self._seen):
            if (process.pid, process.started) not in living:
                heir = process.parent if process.parent in known else tree[0].pid
                used = self._total(process)
                self._inherited.pop(process.pid, None)
                self._inherited[heir] += used
        self._seen = tree
        return sum(map(self._total, tree))

    def _total(self, process: Process) -> float:
        inherited = self._inherited.get(process.pid, 0.0)
        return process.own_cpu_seconds + max(process.waited_cpu_seconds, inherited)


def own_resident_bytes() -> int:
    """What this process itself keeps in memory."""
    process = _read(os.getpid())
    assert process is not None, "a process can read its own /proc/PID/stat"
    return process.resident_bytes


def trees(roots: Iterable[int], *, alone: bool) -> dict[int, list[Process]]:
    """The living processes below each root; `alone`: roots cannot have children, so only they are read."""
    pids = list(roots) if alone else [int(name) for name in os.listdir("/proc") if name.isdigit()]
    found = {pid: process for pid in pids if (process := _read(pid)) is not None}
    children: defaultdict[int, list[int]] = defaultdict(list)
    for process in found.values():
        children[process.parent].append(process.pid)
    return {root: _below(root, found, children) for root in roots if root in found}


def _below(root: int, found: dict[int, Process], children: dict[int, list[int]]) -> list[Process]:
    tree, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        tree.append(found[pid])
        waiting += children.get(pid, ())
    return tree


def proportional_bytes(process: Process) -> int:
    """Memory with shared pages divided among their users; all of it where the kernel does not tell."""
    try:
        with open(f"{_living(process.pid)}/smaps_rollup", "rb") as file:
            return sum(int(line.split()[1]) << 10 for line in file if line.startswith(b"Pss:"))
    except OSError:
        return process.resident_bytes


def disk_use(folder: str, *, stop_at: int) -> tuple[int, int]:
    """Bytes and entries under a folder.

    Counting ends at more than `stop_at` entries; a folder that cannot be looked into counts as that many.
    """
    size = entries = 0
    waiting = [folder]
    while waiting and entries <= stop_at:
        try:
            with os.scandir(waiting.pop()) as listing:
                for entry in listing:
                    status = entry.stat(follow_symlinks=False)
                    entries, size = entries + 1, size + status.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except FileNotFoundError:
            continue
        except OSError:  # a path too long, a folder that may not be read: places to hide in
            entries += stop_at
    return size, entries


def deleted_bytes(pid: int, *, unknown: int) -> int:
    """Size of the files that a process alone keeps alive, because it has them open or mapped.

    A file that is only mapped shows its size to root; for others it counts as `unknown` bytes or as far as
    it is mapped, whichever is more.
    """
    place = _living(pid)
    found: dict[int, int] = {}
    with contextlib.suppress(OSError):
        for name in os.listdir(f"{place}/fd"):
            status = os.stat(f"{place}/fd/{name}")
            if not status.st_nlink:
                found[status.st_ino] = status.st_blocks * 512
    for inode, span, end in _deleted_mappings(place):
        if inode not in found:
            try:
                found[inode] = os.stat(f"/proc/{pid}/map_files/{span}").st_blocks * 512
            except OSError:
                found[inode] = max(unknown, end)
    return sum(found.values())


def _deleted_mappings(place: str) -> list[tuple[int, str, int]]:
    """Inode, addresses and end within the file, of each mapping of a file without a name."""
    try:
        with open(f"{place}/maps", "rb") as file:
            rows = [line.split(None, 5) for line in file if line.endswith(b" (deleted)\n")]
    except OSError:
        return []
    found = []
    for addresses, _, offset, _, inode, _ in rows:
        first, last = (int(address, 16) for address in addresses.split(b"-"))
        found.append((int(inode), f"{first:x}-{last:x}", int(offset, 16) + last - first))
    return found


def _living(pid: int) -> str:
    """Where /proc tells of a process, also when its first thread has ended and others go on."""
    with contextlib.suppress(OSError, IndexError):
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        if fields[0] == b"Z" and int(fields[17]) > 1:
            return f"/proc/{pid}/task/{max(map(int, os.listdir(f'/proc/{pid}/task')))}"
    return f"/proc/{pid}"
