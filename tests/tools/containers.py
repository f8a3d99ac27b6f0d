"""Containers in which a sandbox must do without user namespaces, made by bubblewrap."""

import errno
import os
from typing import Any

from agentrl.tools.sandbox.guest import kernel, seccomp
from tests.tools import ordinary

OF_A_USER = ("bwrap", "--unshare-user", "--disable-userns", "--dev-bind", "/", "/", "--")
"""Of an ordinary user, with no rights in it: rootless containers, stock Ubuntu."""
_RIGHTS = """
CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD
AUDIT_WRITE SETFCAP
""".split()
_DENIED = """
unshare:272,97 setns:308,268 mount:165,40 umount2:166,39 pivot_root:155,41 bpf:321,280 keyctl:250,219
add_key:248,217 request_key:249,218 perf_event_open:298,241 userfaultfd:323,282 open_by_handle_at:304,265
"""


def _dockers_filter() -> bytes:
    program = seccomp._Program(kernel.MACHINE)
    program.answer(_DENIED, errno.EPERM)
    program.rule(seccomp._CLONE3, (seccomp._RETURN, 0, 0, seccomp._error(errno.ENOSYS)))
    program.masked(seccomp._CLONE, 0, seccomp._NEW_NAMESPACES, 0, allow=True)
    return program.assemble()


def run_script_as_its_root(script: str, *arguments: str) -> Any:
    """The JSON that a script prints as root with Docker's default capabilities and denied calls."""
    words = ["bwrap", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--dev-bind", "/", "/"]
    words += ["--proc", "/proc", "--cap-drop", "ALL"]
    for right in _RIGHTS:
        words += ["--cap-add", f"CAP_{right}"]
    if not ordinary.is_root():
        words += ["--unshare-user", "--uid", "0", "--gid", "0"]
    descriptor = os.memfd_create("filter")
    try:
        os.write(descriptor, _dockers_filter())
        os.lseek(descriptor, 0, os.SEEK_SET)
        wrapper = (*words, "--seccomp", str(descriptor), "--")
        return ordinary.run_script(script, *arguments, wrapper=wrapper, user=None, keep=(descriptor,))
    finally:
        os.close(descriptor)
