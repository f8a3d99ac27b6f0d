"""One process at a time works on a run; the lock of a process that died is free."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from pathlib import Path

from agentrl.errors import ConfigError

FILE = "lock"
ATTEMPTS, PAUSE_SECONDS = 3, 0.05
"""Whoever only looks (`holder_of`) holds the lock for a moment."""


class RunLock:
    """Held until `release`, or until the process ends in whatever way: the kernel takes it back.

    The file stays where it is and says who holds it, or who held it last.

    Raises:
        ConfigError: Another process works on the run; names it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        for attempt in range(ATTEMPTS):
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            taken = try_lock(self._file, fcntl.LOCK_EX)
            if taken and self._is_current():  # else its folder was removed between opening and locking
                break
            holder = read_holder(self._file)
            self.release()
            if attempt + 1 == ATTEMPTS:
                raise ConfigError(
                    f"{folder} is in use by {holder}: wait for it or stop it, or choose another --run NAME"
                )
            time.sleep(PAUSE_SECONDS)
        text = f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%F %T')}\n"
        try:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, text.encode(), 0)
        except OSError:
            self.release()
            raise

    def release(self) -> None:
        """Let others work on the run; may be called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _is_current(self) -> bool:
        try:
            return os.fstat(self._file).st_ino == self._path.stat().st_ino
        except FileNotFoundError:
            return False


def holder_of(folder: Path) -> str:
    """Say who works on a run now; '' where nobody does."""
    try:
        file = os.open(folder / FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    try:
        return "" if try_lock(file, fcntl.LOCK_SH) else read_holder(file)
    finally:
        os.close(file)


def try_lock(file: int, kind: int) -> bool:
    """Take a lock if it is free."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_holder(file: int) -> str:
    """Read who wrote into a lock last."""
    return os.pread(file, 256, 0).decode(errors="replace").strip() or "another process"
