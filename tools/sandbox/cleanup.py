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
_LEVELS = 64
"""That many folders are open at once; what lies deeper is first moved up, which costs milliseconds each."""


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
    """Remove a folder that only this process uses any more; no link is followed, whatever stands there.

    All stays inside `folder` and the lock goes last, so that what was broken off is found and done later.
    """
    os.chmod(folder, 0o700)
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        while _empty(top, top, _LEVELS, keep=_LOCK):
            pass
    finally:
        os.close(top)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{folder}/{_LOCK}")
    os.rmdir(folder)


def _empty(here: int, top: int, levels: int, *, keep: str = "") -> int:
    """Remove what is in a folder, up to one file; how many folders were too deep and now stand in `top`."""
    with os.scandir(here) as listing:
        entries = list(listing)
    moved = 0
    for entry in entries:
        if not entry.is_dir(follow_symlinks=False):
            if entry.name != keep:
                os.unlink(entry.name, dir_fd=here)
            continue
        os.chmod(entry.name, 0o700, dir_fd=here)
        if levels:
            moved += _remove_below(entry.name, here, top, levels - 1)
        else:
            os.rename(entry.name, secrets.token_hex(16), src_dir_fd=here, dst_dir_fd=top)
            moved += 1
    return moved


def _remove_below(name: str, parent: int, top: int, levels: int) -> int:
    here = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        moved = _empty(here, top, levels)
    finally:
        os.close(here)
    os.rmdir(name, dir_fd=parent)
    return moved
