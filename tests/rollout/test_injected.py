"""Faults from outside, and the counts of the framework against the log of whoever injected them."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
import subprocess
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentrl.errors import SandboxError
from agentrl.rollout.independent import Independent
from agentrl.toolkit import tool
from agentrl.tools.sandbox import Limits, SandboxPool, open_pool
from agentrl.tools.sandbox.types import Plan
from tests.disks import fill, small_disk
from tests.rollout.playing import Asks, collect, play, seen, strategy

REPLY = json.dumps({"price": "ok", "unit": "each"})


class Server:
    """Answers, and by a seeded draw does it wrongly; every connection's fate stands in `log`."""

    fates = {
        "good": None,
        "half a message": ("tool", "JSONDecodeError"),
        "hangs up": ("tool", "RemoteDisconnected"),
        "hangs up in between": ("tool", "IncompleteRead"),
        "never answers": ("timeout", "TimeoutError"),
    }

    def __init__(self) -> None:
        self.log: list[str] = []
        self._random, self._open = random.Random(5), list[socket.socket]()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            client.recv(4096)
            fate = self._random.choices(list(self.fates), weights=[6, 1, 1, 1, 1])[0]
            self.log.append(fate)
            body = REPLY[: len(REPLY) // 2] if fate == "half a message" else REPLY
            length = len(body) + 10 * (fate == "hangs up in between")
            if fate not in ("hangs up", "never answers"):
                client.sendall(f"HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n{body}".encode())
            if fate == "never answers":
                self._open.append(client)
            else:
                client.close()

    def close(self) -> None:
        """Stop, and hang up on whoever still waits."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
        for client in self._open:
            client.close()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.mark.parametrize("retries", [0, 2])
def test_a_faulty_server_is_counted_as_its_log_says(server: Server, retries: int) -> None:
    class Remote(Asks):
        def work(self) -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/price") as reply:
                return str(json.load(reply)["price"])

    episodes = play(Remote, 40, turn_seconds=4.0, retries=retries)
    wanted = Counter(fate for name in server.log if (fate := Server.fates[name]) is not None)
    assert Counter(seen(episodes)) == wanted and len(wanted) == 4
    good = server.log.count("good")
    assert sum(e.failure is None for e in episodes) == good
    assert sum(len(e.failures) for e in episodes) + good == len(server.log)
    assert all(e.correct for e in episodes if e.failure is None)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a folder on a disk of its own without a byte to spare."""
    with small_disk(tmp_path, megabytes=1):
        fill(tmp_path)
        yield tmp_path


def test_a_full_disk_is_a_failure(full_disk: Path) -> None:
    class Writes(Asks):
        def work(self) -> str:
            (full_disk / "note").write_text("note")
            return "ok"

    (episode,) = play(Writes, retries=0)
    assert seen([episode]) == [("tool", "OSError")]
    assert episode.failure is not None and "No space left on device" in episode.failure.message


def host_pid(pidfd: int) -> int:
    """Give the number that a process has out here."""
    lines = Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pid:"))


class Boxed(Asks):
    """Runs code in a sandbox for a while, and says in which process."""

    running: dict[int, Any]
    pool: SandboxPool

    @tool
    async def use(self, item: str) -> str:  # type: ignore[override]
        """Use it."""
        box: Any = await self.pool.acquire()
        try:
            self.running[host_pid(box._forked.pidfd)] = self
            ran = await box.run("import time\ntime.sleep(3)\nprint('ok')")
            return str(ran.output)
        finally:
            await box.close()


async def signalled(chosen: Independent, count: int, running: dict[int, Any]) -> tuple[Any, list[int]]:
    """Play, and signal a random half of the sandboxes from outside while all of them run."""
    playing = asyncio.create_task(collect(chosen, count))
    while len(running) < count:
        assert not playing.done(), playing.result()
        await asyncio.sleep(0.01)
    draw = random.Random(3)
    log = draw.sample(sorted(running), count // 2)
    for pid in log:
        name = draw.choice([signal.SIGKILL, signal.SIGSTOP]).name.removeprefix("SIG")
        subprocess.run(["kill", "-s", name, str(pid)], check=True)
    return await playing, log


def test_sandboxes_that_are_killed_or_stopped_from_outside_are_failures() -> None:
    async def run() -> tuple[Any, list[int]]:
        async with open_pool(level="namespaces", limits=Limits(wall_seconds=6.0), size=8) as pool:

            class Here(Boxed):
                pass

            Here.running, Here.pool = {}, pool
            return await signalled(strategy(Here, retries=0), 8, Here.running)

    episodes, log = asyncio.run(run())
    assert seen(episodes) == [("sandbox", "SandboxError")] * len(log) and len(log) == 4
    words = {e.failure.message.rpartition(" sandbox ")[2] for e in episodes if e.failure is not None}
    assert words == {"was killed from outside", "was stopped from outside"}


def test_what_code_does_to_itself_stays_its_own_doing() -> None:
    """The other side: no signal that code in a sandbox sends counts as a failure."""

    async def run() -> list[bool]:
        async with open_pool(level="namespaces", limits=Limits(wall_seconds=1.0), size=4) as pool:
            found = []
            for code in ("os.kill(os.getpid(), 9)", "os.kill(os.getpid(), 19)", "os._exit(9)", "os.close(3)"):
                box = await pool.acquire()
                ran = await box.run(f"import os\n{code}\nwhile True: pass")
                found.append(ran.alive)
                await box.close()
            return found

    assert asyncio.run(run()) == [False] * 4


def test_a_zygote_that_cannot_be_started_is_the_sandboxs_failure(
    full_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with SandboxPool(Plan(level="namespaces", limits=Limits()), size=1):
            pass

    monkeypatch.setattr("tempfile.tempdir", str(full_disk))
    with pytest.raises(SandboxError, match="zygote cannot be started: .*No space left on device"):
        asyncio.run(run())
