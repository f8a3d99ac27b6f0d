"""System calls that the standard library does not offer, by ctypes.

Whatever can be made ready is made before a fork: a page that a new sandbox does not touch is not copied.
"""

import ctypes
import os
import platform
import struct
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)
_unshare, _setns, _mount = _libc.unshare, _libc.setns, _libc.mount
_prctl, _syscall = _libc.prctl, _libc.syscall
_syscall.restype = ctypes.c_long
_mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong)

NEW_MOUNTS, NEW_USER, NEW_PIDS = 0x00020000, 0x10000000, 0x20000000
READ_ONLY, NO_SUID, NO_DEV, NO_EXEC, RECURSIVE, PRIVATE = 1, 2, 4, 8, 0x4000, 0x40000

_PDEATHSIG, _DUMPABLE, _SECCOMP, _SECUREBITS, _NO_NEW_PRIVS = 1, 4, 22, 28, 38
_KEEP_CAPS_AND_NO_SETUID_FIXUP = 0x14
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446

MACHINE = platform.machine()
_CAPSET = {"x86_64": 126, "aarch64": 91}.get(MACHINE, -1)
_CAPABILITY_HEADER = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0))
_NO_CAPABILITIES = ctypes.create_string_buffer(24)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    """Give this process, or with NEW_PIDS its next child, namespaces of its own."""
    _check(_unshare(flags), "unshare")


def setns(descriptor: int, kind: int) -> None:
    """Enter the namespace behind an open /proc/PID/ns file."""
    _check(_setns(descriptor, kind), "setns")


def mount(kind: bytes, target: bytes, flags: int, options: bytes) -> None:
    """Mount a file system that has no device."""
    _check(_mount(b"none", target, kind, flags, options), "mount")


def keep_capabilities_across_setuid() -> None:
    """Stop a change of user from emptying the capabilities of root."""
    _check(_prctl(_SECUREBITS, _KEEP_CAPS_AND_NO_SETUID_FIXUP, None, 0, 0), "securebits")


def make_dumpable() -> None:
    """Let the process open its own /proc files again after a change of user."""
    _check(_prctl(_DUMPABLE, 1, None, 0, 0), "dumpable")


def die_with_parent(parent: int) -> None:
    """Be killed when the parent ends.

    Raises:
        ProcessLookupError: It has ended already.
    """
    _check(_prctl(_PDEATHSIG, 9, None, 0, 0), "pdeathsig")
    if os.getppid() != parent:
        raise ProcessLookupError("the zygote has ended")


def no_new_privileges() -> None:
    """Let no program that is started, such as sudo, add rights."""
    _check(_prctl(_NO_NEW_PRIVS, 1, None, 0, 0), "no_new_privs")


def drop_capabilities() -> None:
    """Empty the effective, permitted and inheritable sets; with no_new_privs nothing brings them back."""
    _check(_syscall(_CAPSET, _CAPABILITY_HEADER, _NO_CAPABILITIES), "capset")


def make_filter(program: bytes) -> Any:
    """A BPF program, 8 bytes per instruction, in the form that `filter_system_calls` takes."""
    code = ctypes.create_string_buffer(program, len(program))
    head = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
    head.code = code  # type: ignore[attr-defined]  # kept alive: the head has only its address
    return head


def filter_system_calls(head: Any) -> None:
    """Install a filter for this process and all that it starts, for good."""
    _check(_prctl(_SECCOMP, 2, ctypes.addressof(head), 0, 0), "seccomp")


def landlock_version() -> int:
    """Of Landlock's interface in this kernel; 0 where it is missing or switched off."""
    return max(0, int(_syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)))


def landlock_create(attributes: bytes) -> int:
    """A descriptor of a new, empty set of rules."""
    size = ctypes.c_size_t(len(attributes))
    return _check(_syscall(_LANDLOCK_CREATE, attributes, size, 0), "landlock_create_ruleset")


def landlock_add(ruleset: int, path_descriptor: int, access: int) -> None:
    """Allow kinds of access to all below a path."""
    rule = struct.pack("=Qi", access, path_descriptor)
    _check(_syscall(_LANDLOCK_ADD, ruleset, 1, rule, 0), "landlock_add_rule")


def landlock_restrict(ruleset: int) -> None:
    """Deny this process and all that it starts what the rules do not allow, for good."""
    _check(_syscall(_LANDLOCK_RESTRICT, ruleset, 0), "landlock_restrict_self")


def use_one_arena() -> None:
    """Let all threads allocate from one heap: each further one would reserve 64 MiB of address space."""
    _libc.mallopt(-8, 1)


def trim_heap() -> None:
    """Give unused memory back: every fork would copy the tables of its pages."""
    _libc.malloc_trim(0)


def be_the_first_to_go() -> None:
    """When the machine runs out of memory, let the kernel end this process rather than another."""
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def wipe_environment() -> None:
    """Empty the environment, also the copy that /proc/self/environ shows."""
    os.environ.clear()
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[47]), int(fields[48])
    if start:
        ctypes.memset(start, 0, end - start)
