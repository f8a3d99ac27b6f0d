"""A run's folder: what was asked for, what happened, what came out."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentrl.errors import ConfigError
from agentrl.store.errors import StoreError
from agentrl.store.files import sync, write_whole
from agentrl.store.lock import FILE as LOCK
from agentrl.store.lock import RunLock

VERSION = "0.1.0"
MARK = "agentrl"
"""Key of `config.json` that tells a run from any other folder with a file of that name; its value is our
version.
"""
ID = "id"
"""Key of what tells this run from an earlier one of the same name; its rows and checkpoints bear it."""
CONTENT = {"env_code": "environment code", "model_files": "model files"}
"""Entries that are digests: only that they differ is worth saying."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
CONFIG, RESULT, CHECKPOINTS = "config.json", "result.json", "checkpoints"
STOPPED = "stopped.json"
"""Why the last process gave up, `agentrl.ending.Ending`; gone once the run goes on."""
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """`runs/NAME/` with `config.json`, `run.db`, `checkpoints/`; at the end also what came of it."""

    path: Path
    id: str
    lock: RunLock | None
    """None where the run is finished and nothing will be written."""
    new: bool = False
    """Whether it was made just now, and not found."""

    @property
    def result(self) -> dict[str, Any] | None:
        """What a finished run ended with; None while there is none."""
        return read_json(self.path / RESULT)

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are."""
        return self.path / CHECKPOINTS

    def discard(self) -> None:
        """Remove a run that came to nothing, and `runs/` where it held nothing else."""
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()

    def close(self) -> None:
        """Let other processes work on it."""
        if self.lock is not None:
            self.lock.release()

    def write(self, name: str, text: str) -> Path:
        """Write a file so that it is there whole or not at all."""
        with writable(self.path):
            return write_whole(self.path / name, [text.encode()])

    def write_json(self, name: str, data: Any) -> Path:
        """Write JSON for people and programs."""
        return self.write(name, json_text(data))


def default_name(env: str, algorithm: str, model: str, seed: int) -> str:
    """Name a run after what it is, so that the same command finds it again.

    >>> default_name("examples/guess.py:Guess", "grpo", "tiny", 0)
    'Guess-grpo-tiny-0'
    """
    short = env.rpartition(":")[2] or env
    parts = (short, algorithm, Path(model).name or "model", str(seed))
    name = "-".join(re.sub(r"[^A-Za-z0-9._]+", "_", p) for p in parts)
    return (name if name[0].isalnum() else f"run{name}")[:128]


def open_run(
    name: str,
    config: Mapping[str, Any],
    *,
    fresh: bool = False,
    root: Path | None = None,
    tell: Tell = lambda line: None,
) -> RunFolder:
    """Make or find a run's folder, lock it and record the configuration; a finished run is only found.

    Args:
        name: The run's name, or a path to its folder.
        config: Resolved settings; no secrets.
        fresh: Delete what is there first.
        root: Where runs live; `runs/` in the current folder by default.
        tell: Is told what could not be deleted.

    Raises:
        ConfigError: The name is no file name, the folder holds something else or a run with other settings,
            another process works on it, or it cannot be written.
    """
    check_name(name)
    folder = folder_of(name, root)
    stored = read_config(folder)
    if stored is None and folder.exists() and not is_empty(folder):
        raise ConfigError(f"{folder} is a folder with other things in it: choose another --run NAME")
    plain = plain_config(config)
    if stored is not None and not fresh:
        check_same(folder, stored, plain)
        if read_json(folder / RESULT) is not None:
            return RunFolder(path=folder, id=stored[ID], lock=None)
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = RunLock(folder)
    try:
        return _begin(folder, plain, lock, fresh=fresh, tell=tell)
    except BaseException:
        lock.release()
        raise


def _begin(folder: Path, config: dict[str, Any], lock: RunLock, *, fresh: bool, tell: Tell) -> RunFolder:
    """Look again, now that nobody else can change it, and write down what is asked for."""
    stored = read_config(folder)
    if stored is not None and not fresh:
        check_same(folder, stored, config)
        with writable(folder):
            (folder / STOPPED).unlink(missing_ok=True)
            clear_drafts(folder)
        return RunFolder(path=folder, id=stored[ID], lock=lock)
    run = RunFolder(path=folder, id=uuid.uuid4().hex, lock=lock, new=True)
    with writable(folder):
        for name in (RESULT, STOPPED):
            (folder / name).unlink(missing_ok=True)
        run.write_json(CONFIG, config | {ID: run.id})  # from here on, what lies there is another run's
        if stored is not None:
            erase(folder, stored, but={LOCK, CONFIG}, tell=tell)
        sync(folder.parent)
    return run


def is_unfinished(name: str, config: Mapping[str, Any]) -> bool:
    """Whether a run of this name and configuration was begun and not finished."""
    folder = folder_of(name)
    stored = read_config(folder)
    same = stored is not None and not differences(stored, plain_config(config))
    return same and read_json(folder / RESULT) is None


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Give a configuration as it is written down."""
    plain: dict[str, Any] = json.loads(json.dumps(config, default=str))
    return {MARK: VERSION} | plain


def folder_of(name: str, root: Path | None = None) -> Path:
    """Give the folder of a run, by its name or path."""
    return Path(name) if "/" in name else (root or Path("runs")) / name


def erase(folder: Path, config: Mapping[str, Any], *, but: set[str], tell: Tell) -> None:
    """Remove what a run has written, in its folder and in a database that it shares.

    Where the database does not answer, which it may never have, the folder is removed even so.
    """
    if config.get("store", {}).get("url"):
        try:
            _erase_rows(folder, config)
        except StoreError as error:
            rows = f"the rows with run = {config[ID]!r}, which {folder} wrote there, stay behind"
            tell(f"{error.reason}; {rows}")
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name not in but:
            path.unlink()


def _erase_rows(folder: Path, config: Mapping[str, Any]) -> None:
    from agentrl.store.store import open_store

    store = open_store(folder, config)
    try:
        store.erase()
    finally:
        store.close()


def clear_drafts(folder: Path) -> None:
    """Remove what was not finished when a process was killed while it wrote."""
    for path in (*folder.glob(".*"), *(folder / CHECKPOINTS).glob(".*")):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def check_same(folder: Path, stored: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Refuse to go on with other settings.

    Raises:
        ConfigError: They differ; names them.
    """
    if found := differences(stored, config):
        raise ConfigError(
            f"{folder} holds a run with {found}: choose another --run NAME, or --fresh to replace it"
        )


@contextlib.contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Turn what the file system refuses into one line.

    Raises:
        StoreError: It was refused.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written: {error.strerror}: make room or set its rights, or choose another "
            "--run NAME; nothing that was committed is lost"
        ) from error


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a run.

    Raises:
        ConfigError: It has other characters.
    """
    if not NAME.fullmatch(name.rpartition("/")[2]):
        raise ConfigError(f"run {name!r}: use letters, digits, '.', '_' and '-'")


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Name what differs between two configurations.

    >>> differences({"seed": 0, "algorithm_settings": {"steps": 1}}, {"algorithm_settings": {"steps": 40}})
    'algorithm_settings.steps: 1 → 40, seed: 0 → None'
    """
    found = []
    for key in sorted({*old, *new} - {MARK, ID}):
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if key in CONTENT:
            found.append(f"other {CONTENT[key]}")
        elif isinstance(before, Mapping) and isinstance(after, Mapping):
            names = sorted(n for n in {*before, *after} if before.get(n) != after.get(n))
            found += [f"{key}.{n}: {before.get(n)} → {after.get(n)}" for n in names]
        else:
            found.append(f"{key}: {before} → {after}")
    return ", ".join(found)


def read_config(folder: Path) -> dict[str, Any] | None:
    """Give the configuration of a run; None where the folder is none."""
    data = read_json(folder / CONFIG)
    return data if data is not None and MARK in data and ID in data else None


def is_empty(folder: Path) -> bool:
    """Whether a folder holds at most what a run leaves that was stopped at its very beginning."""
    return folder.is_dir() and {f.name for f in folder.iterdir()} <= {LOCK, f".{CONFIG}.draft"}


def read_json(file: Path) -> dict[str, Any] | None:
    """Read an object; None where there is none."""
    try:
        data = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def json_text(data: Any) -> str:
    """Write JSON for people and programs."""
    return json.dumps(data, indent=2, default=str) + "\n"
