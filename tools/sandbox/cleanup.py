"""Folders on the host's disk: made with a lock, removed whatever hostile code left in them."""

import asyncio
import contextlib
import fcntl
import glob
import os
import stat
import tempfile

_PREFIX = "agentrl-sandbox-"
_LOCK = "in-use"


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
        os.close(self._lock)
        await remove_tree(self.path)


def _sweep(path: str) -> None:
    """Remove a folder of this user that nobody holds the lock of; one that is being made has no lock yet."""
    with contextlib.suppress(OSError):
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            return
        descriptor = os.open(f"{path}/{_LOCK}", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
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
    """Empty the folders one by one, each first moved to the top: no path grows long, nothing recurses."""
    waiting, moved = [folder], 0
    while waiting:
        path = waiting.pop()
        os.chmod(path, 0o700)
        with os.scandir(path) as listing:
            entries = list(listing)
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
                continue
            os.chmod(entry.path, 0o700)
            moved += 1
            target = f"{folder}.{moved}"
            os.rename(entry.path, target)
            waiting.append(target)
        os.rmdir(path)
