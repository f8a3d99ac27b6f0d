"""What a process holds and what its state is: evidence for leaks and side effects."""

from __future__ import annotations

import asyncio
import gc
import locale
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from agentrl.check.state import leaves_of

OURS = ("agentrl-", "asyncio_", "MainThread")
HELPERS = ("resource_tracker", "multiprocessing.forkserver")
PASSING = ("anon_inode:", "/dev/null", "/dev/urandom", "/proc/")
NO_WRITING = ("COLUMNS", "LINES")


def threads() -> dict[str, str]:
    """Give the author's living threads."""
    found = [t for t in threading.enumerate() if not t.name.startswith(OURS) and not _is_adapter(t)]
    return {f"{t.name}-{t.ident}": f"thread {t.name!r}" for t in found if t.is_alive()}


def _is_adapter(thread: threading.Thread) -> bool:
    return getattr(getattr(thread, "_target", None), "__qualname__", "") == "OwnThread._work"


def processes() -> dict[str, str]:
    """Give all processes below this one."""
    found: dict[str, str] = {}
    waiting = _children(os.getpid())
    while waiting:
        pid = waiting.pop()
        waiting += _children(pid)
        command = _command(pid)
        if command and not any(h in command for h in HELPERS):
            found[str(pid)] = f"process {command!r}"
    return found


def _children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(p) for t in tasks for p in (t / "children").read_text().split()]
    except OSError:
        return []


def _command(pid: int) -> str:
    try:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return "(ended, never waited for)"
        return (
            Path(f"/proc/{pid}/cmdline")
            .read_bytes()
            .replace(b"\0", b" ")
            .decode(errors="replace")[:80]
            .strip()
        )
    except OSError:
        return ""


def files() -> dict[str, str]:
    """Give the open files and sockets of this process."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if not target.startswith(PASSING):
            found[f"{name}:{target}"] = (
                f"open file {target!r}" if target.startswith("/") else f"open {target}"
            )
    return found


def leftovers(folder: str) -> dict[str, str]:
    """Give what lies in the folder for temporary files."""
    return {name: f"temporary file {name!r}" for name in sorted(os.listdir(folder))}


def pending() -> dict[str, str]:
    """Give the asyncio tasks that wait on this loop, but for the running one."""
    others = [t for t in asyncio.all_tasks() if t is not asyncio.current_task() and not t.done()]
    return {
        t.get_name(): f"asyncio task {getattr(t.get_coro(), '__qualname__', t.get_name())!r}" for t in others
    }


def held(folder: str) -> dict[str, str]:
    """Give everything that an episode may forget to release."""
    gc.collect()
    getattr(subprocess, "_cleanup", lambda: None)()
    return threads() | processes() | files() | leftovers(folder) | pending()


async def settled(folder: str, before: Mapping[str, str], seconds: float = 1.5) -> dict[str, str]:
    """Give what is held beyond `before`, after some patience with what is just ending."""
    end = time.monotonic() + seconds
    while True:
        extra = {k: v for k, v in held(folder).items() if k not in before}
        if not extra or time.monotonic() > end:
            return extra
        await asyncio.sleep(0.02)


def global_state() -> dict[str, Any]:
    """Give the state of the process that an environment must leave alone, by what to call it."""
    handled = {
        s: signal.getsignal(s) for s in signal.valid_signals() if s not in {signal.SIGKILL, signal.SIGSTOP}
    }
    return {
        "the working directory": os.getcwd(),
        "os.environ": {k: v for k, v in os.environ.items() if k not in NO_WRITING},
        "the global `random` generator": hash(random.getstate()),
        "the global `numpy.random` generator": str(leaves_of(np.random.get_state())),
        "warnings.filters": list(warnings.filters),
        "signal handlers": handled,
        "the locale": locale.setlocale(locale.LC_ALL),
        "sys.path": list(sys.path),
        "the recursion limit": sys.getrecursionlimit(),
        "sys.stdout": id(sys.stdout),
        "sys.excepthook": id(sys.excepthook),
        "threading.excepthook": id(threading.excepthook),
        "the root logger": (logging.root.level, len(logging.root.handlers)),
        "the default socket time-out": socket.getdefaulttimeout(),
        "numpy's error handling": np.geterr(),
        "the umask": _umask(),
    }


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def watch_files(folder: str) -> set[str]:
    """Give a set that collects the files and folders which this process makes outside of a folder."""
    made: set[str] = set()

    def hook(event: str, args: tuple[Any, ...]) -> None:
        opens = event == "open" and isinstance(args[2], int) and bool(args[2] & os.O_CREAT)
        if (opens or event in {"os.mkdir", "sqlite3.connect"}) and isinstance(args[0], (str, bytes)):
            path = os.path.abspath(os.fsdecode(args[0]))
            apart = path.startswith((folder, "/dev/", "/proc/")) or "__pycache__" in path
            if not apart and not os.path.exists(path):
                made.add(path)

    sys.addaudithook(hook)
    return made


def megabytes() -> float:
    """Give the memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
