"""What the processes of a sandbox use together, as the zygote sees it in /proc."""

import os
import resource
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

_PAGE = resource.getpagesize()
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    """One process; `cpu_seconds` has those of the children that it waited for."""

    pid: int
    parent: int
    cpu_seconds: float
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
    ticks = sum(int(field) for field in fields[11:15])
    return Process(pid, int(fields[1]), ticks / _TICKS, int(fields[17]), int(fields[21]) * _PAGE)


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
        with open(f"/proc/{process.pid}/smaps_rollup", "rb") as file:
            return sum(int(line.split()[1]) << 10 for line in file if line.startswith(b"Pss:"))
    except OSError:
        return process.resident_bytes


def disk_use(pid: int, folder: str, *, stop_at: int) -> tuple[int, int]:
    """Bytes and entries under a folder, with files that are deleted but still open in the process.

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
    return size + _deleted_bytes(pid), entries


def _deleted_bytes(pid: int) -> int:
    size = 0
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            status = os.stat(f"/proc/{pid}/fd/{name}")
            size += 0 if status.st_nlink else status.st_blocks * 512
    except OSError:
        pass
    return size
