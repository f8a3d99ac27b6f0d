"""Which walls and limits hold at each level, and by what; some depend on this machine."""

import os
import platform
import re
from pathlib import Path

from agentrl.tools.sandbox.levels import first_user_of
from agentrl.tools.sandbox.types import LevelName

_BOTH = (
    "network: socket() denied by seccomp for every family",
    "environment: empty",
    "time: the tree is killed by SIGKILL after Limits.wall_seconds per call; RLIMIT_CPU per process",
    "output and emitted values: cut or refused by the host",
    "not there: shared memory without a file (mmap(-1) of Python too), socket options, asynchronous I/O",
    "best effort: what the kernel keeps in pipes and socket pairs is not counted; 64 descriptors per process",
    "best effort: two sandboxes that cooperate can signal by timing and by locks on the system's own files, "
    "which the host would meet too",
)
_EACH: dict[LevelName, tuple[str, ...]] = {
    "namespaces": (
        *_BOTH,
        "files: own mount namespace, read-only system, private /tmp (tmpfs with limits) and /proc",
        "processes: killing the first kills all, also what was started twice over; there is one session",
        "memory: RLIMIT_AS per process; the tree by a watchdog every 50 ms (no cgroup)",
        "CPU of the tree: by the same watchdog; best effort for many short processes that nobody waits for",
    ),
    "landlock": (
        *_BOTH,
        "files: Landlock lets the code read Python's library and write a private folder; it can ask whether a"
        " file exists, how large and old it is, and whose, not read it; chmod, utime and setxattr do nothing",
        "processes: none can be started (seccomp), so the tree is one process",
        "memory: RLIMIT_AS",
        "disk: RLIMIT_FSIZE per file; size and number of files by a watchdog every 50 ms; a file that is"
        " deleted, closed and still mapped counts by its size for root, else as a quarter of the limit",
        "best effort: folders of other sandboxes have secret names, but two that cooperate can still signal"
        " by what /proc shows of every process",
    ),
    "none": ("nothing but a time-out and cut output: foreign code runs with all rights of this user",),
}
_PER_NAMESPACE = (5, 14)
"""The first Linux that counts the processes of each user namespace apart."""
_AUTOGROUP = "/proc/sys/kernel/sched_autogroup_enabled"
_GROUPS = "/sys/fs/cgroup"


def guarantees(level: LevelName) -> tuple[str, ...]:
    """What holds at a level on this machine."""
    if level == "none":
        return _EACH[level]
    return (*_EACH[level], _processes(level), _processors())


def _processes(level: LevelName) -> str:
    """How the number of processes and threads is limited, and whether one sandbox can use up another's."""
    if first_user_of(level):
        return (
            "one against another: processes and threads by RLIMIT_NPROC, each sandbox has a user of its own"
        )
    if level == "landlock":
        return (
            "one against another: the code runs as this process's own user; threads by a watchdog every 50"
            " ms: until its next look one sandbox can use up what this user may start"
        )
    if linux_version() >= _PER_NAMESPACE:
        return (
            "one against another: processes and threads by RLIMIT_NPROC, counted in a user namespace for each"
        )
    return (
        "NOT HELD, one against another: before Linux 5.14 all processes of this user are counted together,"
        " so one sandbox can use up what another may start; as root each has a user of its own"
    )


def _processors() -> str:
    """Whether the processors are shared out by sandbox."""
    if shares_by_session():
        return "one against another: processors are shared out by sandbox (kernel.sched_autogroup_enabled)"
    return (
        "NOT HELD, one against another: a sandbox with many processes gets more of the processors than one"
        " with few (`sysctl kernel.sched_autogroup_enabled=1` where the kernel has it)"
    )


def shares_by_session() -> bool:
    """Whether the scheduler gives each session, so each sandbox, the same share."""
    try:
        return _text(_AUTOGROUP) == "1" and _is_in_root_cpu_group()
    except OSError:
        return False


def _is_in_root_cpu_group() -> bool:
    """Whether this process is in no CPU group, as a container is: sessions share only outside of one."""
    groups = [line.split(":", 2)[1:] for line in _text("/proc/self/cgroup").splitlines()]
    for controllers, path in groups:
        if "cpu" in controllers.split(","):  # version 1; only its root has an agent
            return path == "/" and os.path.exists(f"{_GROUPS}/{controllers}/release_agent")
    folder = Path(_GROUPS + dict(groups).get("", "/"))
    above = [f for f in (folder, *folder.parents) if f.is_relative_to(_GROUPS)]
    weighed = any((f / "cpu.weight").exists() for f in above)  # every group has one but the root
    return os.path.exists(f"{_GROUPS}/cgroup.controllers") and not weighed


def _text(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


def linux_version() -> tuple[int, int]:
    """Major and minor number of the running kernel."""
    found = re.match(r"(\d+)\.(\d+)", platform.release())
    return (int(found[1]), int(found[2])) if found else (0, 0)
