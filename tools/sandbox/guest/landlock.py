"""Landlock: which paths a process may read and write, for itself and all that it starts, for good."""

import os
import stat
import struct
from collections.abc import Iterable

from agentrl.tools.sandbox.guest import kernel

_EXECUTE, _WRITE, _READ, _LIST = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REFER, _TRUNCATE, _DEVICE_IOCTL = 1 << 13, 1 << 14, 1 << 15
_FIRST_VERSION = (1 << 13) - 1
_MAKE_DEVICES_AND_SOCKETS = 1 << 6 | 1 << 11 | 1 << 9
_ON_FILES = _EXECUTE | _WRITE | _READ | _TRUNCATE | _DEVICE_IOCTL


def _handled(version: int) -> int:
    since = ((2, _REFER), (3, _TRUNCATE), (5, _DEVICE_IOCTL))
    return _FIRST_VERSION | sum(right for first, right in since if version >= first)


def restrict(readable: Iterable[int], writable: Iterable[int]) -> None:
    """Deny this process every path except those under the given descriptors (opened with O_PATH).

    The process must have set no_new_privs. Network and signals are denied besides where the kernel can.
    """
    version = kernel.landlock_version()
    handled = _handled(version)
    attributes = struct.pack("=QQQ", handled, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    ruleset = kernel.landlock_create(attributes[: 8 if version < 4 else 16 if version < 6 else 24])
    try:
        for descriptor in readable:
            _allow(ruleset, descriptor, _READ | _LIST)
        for descriptor in writable:
            _allow(ruleset, descriptor, handled & ~_EXECUTE & ~_MAKE_DEVICES_AND_SOCKETS & ~_DEVICE_IOCTL)
        kernel.landlock_restrict(ruleset)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, descriptor: int, access: int) -> None:
    is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
    kernel.landlock_add(ruleset, descriptor, access if is_folder else access & _ON_FILES)
