"""Files that are there whole or not at all, also after a power cut."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
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
    """Give the bytes of all files in a folder, also while somebody writes there."""
    files = (Path(above) / name for above, _, names in os.walk(folder) for name in names)
    return sum(found.st_size for found in looked_at(files))


def looked_at(paths: Iterable[Path]) -> Iterator[os.stat_result]:
    """Give what is known of each path; one that is gone by now is left out."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            yield path.lstat()


def sync(path: Path) -> None:
    """Make a file's content, or a folder's list of names, reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
