"""Runs `agentrl` as a user does: a process of its own, an empty folder, no terminal."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from agentrl.cli.main import main

AGENTRL = str(Path(sys.executable).with_name("agentrl"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str
    cpu_seconds: float

    @property
    def data(self) -> dict[str, Any]:
        """The JSON object of the last line."""
        data = json.loads(self.out.splitlines()[-1])
        assert isinstance(data, dict)
        return data

    @property
    def complaint(self) -> str:
        """The one line on stderr of a command that refused."""
        lines = self.err.splitlines()
        assert self.code == 2 and len(lines) == 1 and lines[0].startswith("agentrl: "), (self.code, self.err)
        return lines[0].removeprefix("agentrl: ")


class Run(Protocol):
    """Runs `agentrl` with some words."""

    def __call__(self, *words: str, stdin: str = "") -> Ended: ...


def run_command(command: list[str], folder: Path, stdin: str = "") -> Ended:
    """Run a program to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=folder, input=stdin, capture_output=True, text=True, timeout=240)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Ended(code=done.returncode, out=done.stdout, err=done.stderr, cpu_seconds=cpu)


@pytest.fixture
def agentrl(tmp_path: Path) -> Run:
    """Give what runs `agentrl` in an empty folder."""

    def run(*words: str, stdin: str = "") -> Ended:
        return run_command([AGENTRL, *words], tmp_path, stdin)

    return run


@pytest.fixture
def agentrl_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Give what runs `agentrl` in this process, which has imported torch already; in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(*words: str, stdin: str = "") -> Ended:
        code = main(words)
        captured = capfd.readouterr()
        return Ended(code=code, out=captured.out, err=captured.err, cpu_seconds=0.0)

    yield run


def interrupt(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Send what Ctrl-C sends to a process group of its own; give the exit code and stderr."""
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    return process.returncode, err
