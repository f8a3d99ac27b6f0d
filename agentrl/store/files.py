"""Files that are there whole or not at all, also after a power cut."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def write_whole(target: Path, data: Iterable[bytes | memoryview]) -> Path:
    """Write pieces into a file beside its place, sync it, put it there and sync the folder."""
    draft = target.with_name(f".{target.name}.draft")
    try:
        with draft.open("wb") as file:
            file.writelines(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync(target.parent)
    return target


def size_of(folder: Path) -> int:
    """Give the bytes of all files in a folder."""
    return sum(f.lstat().st_size for f in folder.rglob("*") if not f.is_dir())


def sync(path: Path) -> None:
    """Make a file's content, or a folder's list of names, reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
