"""The runs in a folder: where each stands, what it takes, and how to give room back."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agentrl.errors import ConfigError, unknown
from agentrl.runs import CHECKPOINTS, CONFIG, RESULT, Tell, erase, folder_of, read_config, read_json, writable
from agentrl.store.files import looked_at, size_of
from agentrl.store.lock import FILE as LOCK
from agentrl.store.lock import RunLock, holder_of

State = Literal["finished", "running", "stopped"]
SAVED = re.compile(r"step-(\d+)\.safetensors")
"""A checkpoint; what somebody has put beside them has other names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """One run as it lies on the disk."""

    path: Path
    config: dict[str, Any]
    state: State
    holder: str
    """Who works on it; '' where nobody does."""
    step: int
    """The last step that was saved."""
    steps: int
    """How many it was asked for."""
    bytes: int
    changed: float
    """When it was last written, in seconds since 1970."""
    result: dict[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON data."""
        result = self.result or {}
        return {
            "run": self.path.name,
            "path": str(self.path),
            "state": self.state,
            "step": self.step,
            "steps": self.steps,
            "bytes": self.bytes,
            "changed": self.changed,
            "env": self.config.get("env"),
            "model": self.config.get("model"),
            "success_before": result.get("success_before"),
            "success_after": result.get("success_after"),
        }


def list_runs(root: Path) -> list[RunInfo]:
    """Give the runs in a folder, the latest change first."""
    found = [look_at(folder) for folder in root.glob("*") if folder.is_dir()] if root.is_dir() else []
    return sorted((run for run in found if run is not None), key=lambda run: -run.changed)


def find_run(name: str, root: Path = Path("runs")) -> RunInfo:
    """Give a run by its name or path.

    Raises:
        ConfigError: There is none; names the nearest.
    """
    run = look_at(folder_of(name, root))
    if run is None:
        raise ConfigError(unknown("run", name, [r.path.name for r in list_runs(root)]))
    return run


def look_at(folder: Path) -> RunInfo | None:
    """Look at a folder; None where it is no run."""
    config = read_config(folder)
    if config is None:
        return None
    result, holder = read_json(folder / RESULT), holder_of(folder)
    names = [SAVED.fullmatch(f.name) for f in folder.glob(f"{CHECKPOINTS}/*")]
    saved = [int(name[1]) for name in names if name is not None]
    return RunInfo(
        path=folder,
        config=config,
        state="running" if holder else "finished" if result is not None else "stopped",
        holder=holder,
        step=max(saved, default=0) if result is None else int(result.get("steps", 0)),
        steps=int(config.get("algorithm_settings", {}).get("steps", 0)),
        bytes=size_of(folder),
        changed=max((found.st_mtime for found in looked_at(folder.iterdir())), default=0.0),
        result=result,
    )


def prune(run: RunInfo) -> int:
    """Remove what a finished run does not need any more, its checkpoints; gives the bytes that became free.

    Raises:
        ConfigError: Somebody works on it, or it cannot be written.
    """
    folder = run.path / CHECKPOINTS
    if run.state != "finished" or not folder.is_dir():
        return 0
    with writable(run.path):
        lock = RunLock(run.path)
        try:
            freed = size_of(folder)
            shutil.rmtree(folder)
        finally:
            lock.release()
    return freed


def remove(run: RunInfo, tell: Tell) -> int:
    """Remove a whole run, with its rows in a shared database; gives the bytes that became free.

    Args:
        run: Which one.
        tell: Is told what stays behind in a database that cannot be reached.

    Raises:
        ConfigError: Somebody works on it, or it cannot be written.
    """
    with writable(run.path):
        lock = RunLock(run.path)
        try:
            erase(run.path, run.config, but={CONFIG, LOCK}, tell=tell)
            shutil.rmtree(run.path)
        finally:
            lock.release()
    return run.bytes
