"""System calls that the standard library does not offer, by ctypes."""

import ctypes
import os
import platform
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

NEW_MOUNTS, NEW_USER, NEW_PIDS, NEW_IPC = 0x00020000, 0x10000000, 0x20000000, 0x08000000
NO_SUID, NO_DEV, NO_EXEC, RECURSIVE, PRIVATE = 2, 4, 8, 0x4000, 0x40000

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_SECUREBITS, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 28, 38
_KEEP_CAPS_AND_NO_SETUID_FIXUP = 0x14
_CAPSET = {"x86_64": 126, "aarch64": 91}
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446

MACHINE = platform.machine()


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _call(what: str, number: int, *arguments: object) -> int:
    return _check(int(_libc.syscall(ctypes.c_long(number), *arguments)), what)


def _prctl(what: str, option: int, value: int, other: object = 0) -> None:
    _check(_libc.prctl(option, ctypes.c_ulong(value), other, 0, 0), what)


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def setns(descriptor: int, kind: int) -> None:
    _check(_libc.setns(descriptor, kind), "setns")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    arguments = (source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())
    _check(_libc.mount(*arguments), f"mount {kind} on {target}")


def keep_capabilities_across_setuid() -> None:
    _prctl("securebits", _PR_SET_SECUREBITS, _KEEP_CAPS_AND_NO_SETUID_FIXUP)


def make_dumpable() -> None:
    """Let the process open its own /proc files again after a change of user."""
    _prctl("dumpable", _PR_SET_DUMPABLE, 1)


def die_with_parent(signal: int = 9) -> None:
    _prctl("pdeathsig", _PR_SET_PDEATHSIG, signal)


def no_new_privileges() -> None:
    _prctl("no_new_privs", _PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities() -> None:
    """Empty the effective, permitted and inheritable sets; with no_new_privs nothing brings them back."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0))
    _call("capset", _CAPSET[MACHINE], header, ctypes.create_string_buffer(24))


def filter_system_calls(program: bytes) -> None:
    """Install a BPF program: 8 bytes per instruction."""
    code = ctypes.create_string_buffer(program, len(program))
    head = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
    _prctl("seccomp", _PR_SET_SECCOMP, 2, head)


def landlock_version() -> int:
    """Of Landlock's interface in this kernel; 0 where it is missing or switched off."""
    return max(0, int(_libc.syscall(ctypes.c_long(_LANDLOCK_CREATE), None, ctypes.c_size_t(0), ctypes.c_uint(1))))


def landlock_create(attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    return _call("landlock_create_ruleset", _LANDLOCK_CREATE, buffer, ctypes.c_size_t(len(attributes)), 0)


def landlock_add(ruleset: int, path_descriptor: int, access: int) -> None:
    rule = ctypes.create_string_buffer(struct.pack("=Qi", access, path_descriptor))
    _call("landlock_add_rule", _LANDLOCK_ADD, ruleset, 1, rule, 0)


def landlock_restrict(ruleset: int) -> None:
    _call("landlock_restrict_self", _LANDLOCK_RESTRICT, ruleset, 0)


def wipe_environment() -> None:
    """Empty the environment, also the copy that /proc/self/environ shows."""
    os.environ.clear()
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[47]), int(fields[48])
    if start:
        ctypes.memset(start, 0, end - start)
