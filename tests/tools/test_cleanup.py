"""Folders on the host's disk are removed whatever is in them and however often that was broken off."""

import asyncio
import glob
import os
import tempfile
import time
from pathlib import Path

import pytest

from agentrl.tools.sandbox import cleanup


def folders() -> set[str]:
    return set(glob.glob(f"{tempfile.gettempdir()}/agentrl-sandbox-*"))


def test_the_folder_of_a_killed_host_is_swept_by_the_next() -> None:
    kept, dead = cleanup.HostFolder(), cleanup.HostFolder()
    os.makedirs(f"{dead.path}/1/" + "d/" * 50, mode=0o500)
    os.close(dead._lock)
    third = cleanup.HostFolder()
    assert not os.path.exists(dead.path) and os.path.exists(kept.path)
    asyncio.run(kept.remove())
    asyncio.run(third.remove())


def test_a_sweep_that_is_broken_off_is_done_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    before, dead = folders(), cleanup.HostFolder()
    os.makedirs(f"{dead.path}/1/" + "d/" * 5)

    def killed(path: str, dir_fd: int | None = None) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, "rmdir", killed)
        cleanup._remove(dead.path)
    os.close(dead._lock)
    assert folders() - before == {dead.path}
    assert os.path.exists(f"{dead.path}/in-use")
    asyncio.run(cleanup.HostFolder().remove())
    assert not folders() - before


def test_a_folder_without_a_lock_is_swept_when_it_is_old() -> None:
    prefix = f"{tempfile.gettempdir()}/agentrl-sandbox-"
    old, new = tempfile.mkdtemp(prefix=prefix), tempfile.mkdtemp(prefix=prefix)
    os.mkdir(f"{old}/left")
    os.utime(old, (0, time.time() - 7200))
    asyncio.run(cleanup.HostFolder().remove())
    assert not os.path.exists(old) and os.path.exists(new)
    os.rmdir(new)


def test_a_tree_of_ten_thousand_levels_is_removed_in_time() -> None:
    folder = tempfile.mkdtemp(dir="/dev/shm")
    here = os.open(folder, os.O_RDONLY)
    for _ in range(10_000):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    started = time.process_time()
    asyncio.run(cleanup.remove_tree(folder))
    assert not os.path.exists(folder) and time.process_time() - started < 5


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    kept, folder = tmp_path / "kept", tmp_path / "folder"
    (kept / "inner").mkdir(parents=True)
    (kept / "file").write_text("x")
    kept.chmod(0o755)
    deep = folder
    for _ in range(70):  # also where folders are moved before they are removed
        deep.mkdir()
        os.symlink(kept, deep / "link")
        os.symlink(kept / "file", deep / "to-a-file")
        os.link(kept / "file", deep / "same-file")
        os.mkfifo(deep / "pipe")
        open(os.fsencode(deep) + b"/\xff\xfe\n", "w").close()
        deep /= "d"
    asyncio.run(cleanup.remove_tree(str(folder)))
    assert not folder.exists()
    assert sorted(p.name for p in kept.iterdir()) == ["file", "inner"] and (kept / "file").read_text() == "x"
    assert kept.stat().st_mode & 0o777 == 0o755


def test_a_tree_that_resists_is_removed() -> None:
    folder = tempfile.mkdtemp()
    here = os.open(folder, os.O_RDONLY)
    for _ in range(1500):  # deeper than any path may be long
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    os.mkdir(f"{folder}/closed", 0)
    os.symlink("/", f"{folder}/link")
    asyncio.run(cleanup.remove_tree(folder))
    assert not os.path.exists(folder) and os.path.exists("/usr")
