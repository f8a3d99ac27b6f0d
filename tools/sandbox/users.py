"""User numbers for sandboxes to run as, where this process may hand out any."""

import os

from agentrl.tools.sandbox.guest.confine import USERS

_FAR_FROM_PEOPLE = 0x10000000
_CHOWN, _KILL, _SETGID, _SETUID, _SYS_PTRACE = 1 << 0, 1 << 5, 1 << 6, 1 << 7, 1 << 19


def first_user() -> int:
    """As root: the first of `USERS` numbers that nobody has, others for each process; 0 where there are none.

    A container without a host's root has few numbers; the last of them are taken then.
    """
    needed = _CHOWN | _KILL | _SETGID | _SETUID | _SYS_PTRACE  # the last to watch over another user's files
    if os.geteuid() != 0 or _capabilities() & needed != needed:
        return 0
    wanted = _FAR_FROM_PEOPLE + (os.getpid() & 0xFFFF) * USERS
    found = 0
    for first, count in _numbers("uid_map"):
        if first <= wanted and wanted + USERS <= first + count:
            return wanted
        if count >= 2 * USERS:
            found = first + count - USERS
    return found


def _capabilities() -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1], 16) for line in file if line.startswith("CapEff:"))


def _numbers(name: str) -> list[tuple[int, int]]:
    """Ranges of numbers that exist in this user namespace: first and count."""
    with open(f"/proc/self/{name}") as file:
        rows = [line.split() for line in file]
    return [(int(inside), int(count)) for inside, _, count in rows]


def open_to_all(path: str) -> bool:
    """Whether any user can reach a folder."""
    while path != "/":
        if not os.stat(path).st_mode & 0o001:
            return False
        path = os.path.dirname(path)
    return True
