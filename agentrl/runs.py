"""A run's folder: what was asked for, what happened, what came out."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentrl.errors import ConfigError

VERSION = "0.1.0"
MARK = "agentrl"
"""Key of `config.json` that tells a run from any other folder with a file of that name; its value is our
version.
"""
CONTENT = {"env_code": "environment code", "model_files": "model files"}
"""Entries that are digests: only that they differ is worth saying."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """`runs/NAME/` with `config.json`, `metrics.jsonl`, `curve.svg`, `result.json` and `model/`."""

    path: Path

    @property
    def result(self) -> dict[str, Any] | None:
        """What a finished run ended with; None while there is none."""
        file = self.path / "result.json"
        return json.loads(file.read_text()) if file.is_file() else None

    def discard_empty(self) -> None:
        """Remove a folder in which nothing was trained, and `runs/` where it held nothing else."""
        if {file.name for file in self.path.glob("*")} <= {"config.json"}:
            shutil.rmtree(self.path, ignore_errors=True)
            with contextlib.suppress(OSError):
                self.path.parent.rmdir()

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Add one step's numbers."""
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def write(self, name: str, text: str) -> Path:
        """Write a file so that it is there whole or not at all."""
        target, draft = self.path / name, self.path / f".{name}.draft"
        with draft.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
        return target

    def write_json(self, name: str, data: Any) -> Path:
        """Write JSON for people and programs."""
        return self.write(name, json.dumps(data, indent=2, default=str) + "\n")


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
    name: str, config: Mapping[str, Any], *, fresh: bool = False, root: Path | None = None
) -> RunFolder:
    """Make or find a run's folder and record the configuration.

    Args:
        name: The run's name, or a path to its folder.
        config: Resolved settings; no secrets.
        fresh: Delete what is there first.
        root: Where runs live; `runs/` in the current folder by default.

    Raises:
        ConfigError: The name is no file name, the folder holds something else or a run with other
        settings, or it
            cannot be written.
    """
    folder = Path(name) if "/" in name else (root or Path("runs")) / name
    check_name(name)
    run = RunFolder(path=folder)
    stored = _stored_config(folder)
    if fresh and (stored is not None or not folder.exists()):
        shutil.rmtree(folder, ignore_errors=True)
        stored = None
    plain = {MARK: VERSION} | json.loads(json.dumps(config, default=str))
    if stored is not None and {**stored, MARK: VERSION} != plain:
        raise ConfigError(
            f"{folder} holds a run with {differences(stored, plain)}: "
            "choose another --run NAME, or --fresh to replace it"
        )
    if stored is None and folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is a folder with other things in it: choose another --run NAME")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if run.result is None:
            (folder / "metrics.jsonl").unlink(missing_ok=True)
        run.write_json("config.json", plain)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}") from error
    return run


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
    for key in sorted({*old, *new} - {MARK}):
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


def _stored_config(folder: Path) -> dict[str, Any] | None:
    try:
        data: dict[str, Any] = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return None
    return data if MARK in data else None
