"""Folders on the host's disk: made with a lock, removed whatever hostile code left in them."""

import asyncio
import contextlib
import fcntl
import glob
import os
import secrets
import stat
import tempfile
import time

_PREFIX = "agentrl-sandbox-"
_LOCK = "in-use"
_ABANDONED_SECONDS = 3600.0


class HostFolder:
    """A temporary folder that others can pass through but not list; what dead owners left is swept."""

    def __init__(self) -> None:
        for path in glob.glob(os.path.join(tempfile.gettempdir(), f"{_PREFIX}*")):
            _sweep(path)
        self.path = tempfile.mkdtemp(prefix=_PREFIX)
        os.chmod(self.path, 0o711)
        unlocked = f"{self.path}/{_LOCK}-soon"
        self._lock = os.open(unlocked, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        os.rename(unlocked, f"{self.path}/{_LOCK}")

    async def remove(self) -> None:
        try:
            await remove_tree(self.path)
        finally:
            os.close(self._lock)


def _sweep(path: str) -> None:
    """Remove a folder of this user that nobody holds the lock of.

    One that is being made has no lock yet, one whose removal was broken off may have none left: age tells.
    """
    with contextlib.suppress(OSError):
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            return
        try:
            descriptor = os.open(f"{path}/{_LOCK}", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            if time.time() - status.st_mtime > _ABANDONED_SECONDS:
                _remove(path)
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(path)
        finally:
            os.close(descriptor)


async def remove_tree(folder: str) -> None:
    """Remove a folder and all in it, however deep and whatever its modes."""
    with contextlib.suppress(FileNotFoundError):
        try:
            os.rmdir(folder)
        except OSError:
            await asyncio.to_thread(_remove, folder)


def _remove(folder: str) -> None:
    """Empty the folders one by one, each first moved to the top: no path grows long, nothing recurses.

    All stays inside `folder` and the lock goes last, so that what was broken off is found and done later.
    """
    os.chmod(folder, 0o700)
    waiting, fresh, moved = _unlink_files(folder, keep=_LOCK), f"{folder}/{secrets.token_hex(8)}", 0
    while waiting:
        path = waiting.pop()
        os.chmod(path, 0o700)
        for inner in _unlink_files(path):
            os.chmod(inner, 0o700)
            moved += 1
            os.rename(inner, f"{fresh}.{moved}")
            waiting.append(f"{fresh}.{moved}")
        os.rmdir(path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{folder}/{_LOCK}")
    os.rmdir(folder)


def _unlink_files(folder: str, *, keep: str = "") -> list[str]:
    """The folders in a folder, once all else is gone from it, up to one file."""
    with os.scandir(folder) as listing:
        entries = list(listing)
    folders = []
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            folders.append(entry.path)
        elif entry.name != keep:
            os.unlink(entry.path)
    return folders
