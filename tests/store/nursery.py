"""Runs `agentrl` in processes that can be killed at any point; each is forked from one that has imported all.

    python nursery.py          one JSON command a line on stdin, one JSON answer a line on stdout

A child may be told to kill its own process group at a call, such as the third time that something is about to
be synced. Python's profiler sees the calls, so nothing is replaced.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A moment in a run: the `count`-th `event` of the profiler that concerns a function of this name."""

    function: str
    event: str = "call"
    count: int = 1

    def __str__(self) -> str:
        return f"{self.function}-{self.event}-{self.count}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A command that runs, or did."""

    nursery: Nursery
    pid: int
    folder: Path

    def kill(self) -> None:
        """Kill the process group."""
        os.killpg(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Give the exit code; that of a signal is negative."""
        return int(self.nursery.ask({"wait": self.pid})["code"])

    def wait_at_most(self, seconds: float) -> int | None:
        """Give the exit code, or None where it still runs."""
        end = time.monotonic() + seconds
        while (code := self.nursery.ask({"poll": self.pid})["code"]) is None and time.monotonic() < end:
            time.sleep(0.005)
        return None if code is None else int(code)

    @property
    def out(self) -> str:
        """What it printed."""
        return (self.folder / f"{self.pid}.out").read_text()

    @property
    def err(self) -> str:
        """What it complained about."""
        return (self.folder / f"{self.pid}.err").read_text()


@dataclass(slots=True)
class Nursery:
    """The process that forks the others."""

    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def ask(self, command: dict[str, Any]) -> dict[str, Any]:
        """Send a command and give the answer."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def start(self, *words: str, folder: Path, kill: Point | None = None, files: int = 0) -> Child:
        """Start `agentrl`; `files` is the most bytes that a file may have."""
        point = None if kill is None else [kill.function, kill.event, kill.count]
        answer = self.ask({"words": words, "folder": str(folder), "kill": point, "files": files})
        return Child(nursery=self, pid=answer["pid"], folder=folder)

    def run(self, *words: str, folder: Path, kill: Point | None = None, files: int = 0) -> tuple[int, Child]:
        """Run `agentrl` to its end."""
        child = self.start(*words, folder=folder, kill=kill, files=files)
        return child.wait(), child

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(120)
        self.process.stdout.close()


def dies_at(function: str, event: str, count: int) -> Any:
    """Make a profiler that kills the process group at a point."""
    left = [count]

    def look(frame: Any, what: str, argument: Any) -> None:
        name = argument.__name__ if what.startswith("c_") else frame.f_code.co_qualname
        if what == event and name == function:
            left[0] -= 1
            if left[0] == 0:
                os.killpg(0, signal.SIGKILL)

    return look


def child(command: dict[str, Any]) -> None:
    """Be `agentrl`."""
    import resource

    from agentrl.cli.main import main

    os.setsid()
    os.chdir(command["folder"])
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{os.getpid()}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if command["files"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (command["files"], command["files"]))
    if command["kill"]:
        look = dies_at(*command["kill"])
        threading.setprofile(look)
        sys.setprofile(look)
    code = main(command["words"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def serve() -> None:
    """Answer commands until stdin ends."""
    import transformers.models.qwen2.modeling_qwen2  # noqa: F401

    import agentrl.trainers.run.session  # noqa: F401

    ended: dict[int, int] = {}
    for line in sys.stdin:
        command = json.loads(line)
        if "words" in command:
            if (pid := os.fork()) == 0:
                child(command)
            ended.pop(pid, None)  # numbers come again
            answer: dict[str, int | None] = {"pid": pid}
        else:
            pid = command.get("wait") or command["poll"]
            if pid not in ended:
                found, status = os.waitpid(pid, 0 if "wait" in command else os.WNOHANG)
                if found:
                    ended[pid] = os.waitstatus_to_exitcode(status)
            answer = {"code": ended.get(pid)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
    os._exit(0)
