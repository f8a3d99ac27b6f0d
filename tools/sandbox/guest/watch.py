"""What the processes of a sandbox use together, as the zygote sees it in /proc."""

import os
import resource
from collections import defaultdict
from dataclasses import dataclass

_PAGE = resource.getpagesize()
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Usage:
    """Of one process tree."""

    cpu_seconds: float = 0.0
    resident_bytes: int = 0
    pids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Process:
    parent: int
    cpu_seconds: float
    resident_bytes: int


def _read(pid: int) -> _Process | None:
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
    ticks = sum(int(field) for field in fields[11:15])  # own and those of children that were waited for
    return _Process(int(fields[1]), ticks / _TICKS, int(fields[21]) * _PAGE)


def resident_bytes() -> int:
    """Of this process."""
    process = _read(os.getpid())
    assert process is not None, "a process can read its own /proc/PID/stat"
    return process.resident_bytes


def measure(roots: list[int], *, alone: bool) -> dict[int, Usage]:
    """Usage by root process; `alone`: the roots can have no children, so only they are read."""
    pids = roots if alone else [int(name) for name in os.listdir("/proc") if name.isdigit()]
    found = {pid: process for pid in pids if (process := _read(pid)) is not None}
    children: defaultdict[int, list[int]] = defaultdict(list)
    for pid, process in found.items():
        children[process.parent].append(pid)
    return {root: _sum(root, found, children) for root in roots if root in found}


def _sum(root: int, found: dict[int, _Process], children: dict[int, list[int]]) -> Usage:
    usage, waiting, pids = Usage(), [root], []
    while waiting:
        pid = waiting.pop()
        pids.append(pid)
        usage.cpu_seconds += found[pid].cpu_seconds
        usage.resident_bytes += found[pid].resident_bytes
        waiting += children.get(pid, ())
    usage.pids = tuple(pids)
    return usage


def proportional_bytes(pids: tuple[int, ...]) -> int:
    """Memory with shared pages divided among their users; 0 for what cannot be read any more."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
                total += sum(int(line.split()[1]) << 10 for line in file if line.startswith(b"Pss:"))
        except OSError:
            continue
    return total


def disk_use(pid: int, folder: str, *, stop_at: int) -> tuple[int, int]:
    """Bytes and entries under a folder, with files that are deleted but still open in the process."""
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
        except OSError:
            continue
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
