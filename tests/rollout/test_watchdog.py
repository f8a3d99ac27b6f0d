"""What hangs is named and let go; what cannot be ended is counted and capped; a freeze blames one call."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from agentrl import left_behind
from agentrl.engine.scripted import ScriptedEngine
from agentrl.left_behind import LEFT_BEHIND, LeftBehind
from agentrl.rollout.protocol import Limits
from agentrl.toolkit import tool
from tests.rollout.playing import Asks, collect, play, seen, strategy
from tests.waiting import soon

SLEEP = ctypes.PyDLL(None).usleep
"""A call that holds the interpreter while it sleeps: PyDLL, unlike CDLL, does not let it go."""


class Stuck(Asks):
    """Hangs in a lock until the test lets it go; `close` cannot help."""

    gate = threading.Event()

    def work(self) -> str:
        self.gate.wait(60)
        return "ok"


class Freed(Asks):
    """Hangs until it is closed from outside."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    def work(self) -> str:
        self.gate.wait(60)
        return "ok"

    def close(self) -> None:
        self.gate.set()


class Deaf(Asks):
    """Swallows its cancellation, for an hour."""

    @tool
    async def use(self, item: str) -> str:  # type: ignore[override]
        """Use it."""
        for _ in range(360_000):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
        return "ok"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[LeftBehind]:
    """Count from nothing; whatever still hangs afterwards is let go."""
    fresh = LeftBehind(most=3)
    for name in ("threads", "aio", "adapter"):
        monkeypatch.setattr(f"agentrl.{name}.LEFT_BEHIND", fresh)
    Stuck.gate.clear()
    yield fresh
    Stuck.gate.set()
    deadline = time.monotonic() + 5
    while len(fresh) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not len(fresh)


def test_a_hanging_call_is_named_and_then_evicted(counted: LeftBehind) -> None:
    lines: list[str] = []
    (episode,) = play(Stuck, turn_seconds=0.8, retries=0, report=lines.append)
    assert episode.failure is not None
    assert episode.failure.message == "episode g0/0, turn 0, tool 'use': no answer within 0.8 s"
    assert seen([episode]) == [("timeout", "TimeoutError")]
    late = r"episode g0/0, turn 0, tool 'use': no answer for \d\.\d s of 0\.8 s(; 1 more wait long)?"
    evicted = r"episode g0/0, turn 0, tool 'use': evicted after \d\.\d s without an answer; 1 so far"
    assert any(re.fullmatch(late, line) for line in lines) and re.fullmatch(evicted, lines[-1])
    assert len(counted) == counted.total == 1


def test_a_close_from_outside_frees_the_thread(counted: LeftBehind) -> None:
    (episode,) = play(Freed, turn_seconds=1.0, retries=0)
    assert seen([episode]) == [("timeout", "TimeoutError")] and counted.total == 0


def test_a_coroutine_that_swallows_its_cancellation_is_closed(counted: LeftBehind) -> None:
    began = time.monotonic()
    episodes = play(Deaf, 3, turn_seconds=1.0, retries=0)
    assert seen(episodes) == [("timeout", "TimeoutError")] * 3 and counted.total == 0
    assert time.monotonic() - began < 30  # and not the hour that it would have gone on


def test_what_cannot_be_ended_is_capped(counted: LeftBehind) -> None:
    """Three may hang; then nothing more starts, and the reason says what hangs."""
    before = threading.active_count()
    episodes = play(Stuck, 6, turn_seconds=1.0, retries=0, max_episodes=1)
    assert [e.failure.kind for e in episodes if e.failure] == ["timeout"] * 6
    refused = [e for e in episodes if e.failure and "hang and cannot be killed" in e.failure.message]
    assert len(refused) == 3 and counted.total == 3
    assert refused[0].failure is not None and "(most allowed: 3)" in refused[0].failure.message
    assert soon(lambda: threading.active_count() - before <= 3)  # those that do not hang end by themselves
    Stuck.gate.set()
    assert soon(lambda: len(counted) == 0)
    (freed,) = play(Stuck, retries=0)
    assert freed.failure is None


def test_the_process_counts_in_one_place() -> None:
    assert left_behind.LEFT_BEHIND is LEFT_BEHIND and LEFT_BEHIND.most == 64


class Holds(Asks):
    """The one whose turn it is holds the interpreter; the others wait for something else meanwhile."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.guilty = type(self).made == 8

    def work(self) -> str:
        if self.guilty:
            time.sleep(0.15)  # so that it begins last
            SLEEP(3_300_000)
        else:
            time.sleep(0.6)
        return "ok"


class Last(Holds):
    """The same, and its call begins after the others'."""

    def task(self, rng: Any) -> str:
        if self.guilty:
            time.sleep(0.3)
        return "go"


def test_a_call_that_holds_the_interpreter_fails_alone() -> None:
    """Eight calls with 2 s each; one stops every thread for 3.3 s, and only that one is late."""
    lines: list[str] = []
    Last.made = 0
    episodes = play(Last, 8, turn_seconds=2.0, retries=0, report=lines.append)
    assert seen(episodes) == [("timeout", "TimeoutError")]
    (failed,) = [e for e in episodes if e.failure is not None]
    held = [line for line in lines if "held the interpreter" in line]
    assert len(held) == 1 and held[0].startswith(f"episode {failed.id}, turn 0, tool 'use' probably held")
    assert re.search(r"nothing else ran for \d\.\d s$", held[0])


class Burns(Holds):
    """The call that began first keeps the processor busy and lets nobody else run."""

    def __init__(self) -> None:
        super().__init__()
        self.guilty = type(self).made == 1

    def work(self) -> str:
        time.sleep(0.4 if self.guilty else 1.0)  # so that the others have begun
        if self.guilty:
            began = time.perf_counter()
            sum(range(10**6))
            sum(range(round(4e6 / (time.perf_counter() - began))))
        return "ok"


def test_the_call_that_used_the_processor_is_the_one_that_held_the_interpreter() -> None:
    """Nothing tells it apart but its thread's processor time: seven calls began later."""
    lines: list[str] = []
    Burns.made = 0
    episodes = play(Burns, 8, turn_seconds=2.0, retries=0, report=lines.append)
    (failed,) = [e for e in episodes if e.failure is not None]
    assert failed.id == episodes[0].id
    held = [line for line in lines if "the interpreter" in line]
    assert len(held) == 1 and held[0].startswith(f"episode {failed.id}, turn 0, tool 'use' held the interp")


class ClosesMeanwhile(Holds):
    """One stops every thread for longer than a `close` may take, while the others close."""

    def work(self) -> str:
        if self.guilty:
            time.sleep(0.4)
            SLEEP(6_000_000)
        return "ok"

    def close(self) -> None:
        if not self.guilty:
            time.sleep(1.0)


def test_a_close_is_not_late_because_another_call_held_the_interpreter() -> None:
    ClosesMeanwhile.made = 0
    episodes = play(ClosesMeanwhile, 8, turn_seconds=2.0, retries=0, report=lambda line: None)
    assert seen(episodes) == [("timeout", "TimeoutError")]


class Blocks(Asks):
    """An asynchronous tool that blocks the loop instead of waiting."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.guilty = type(self).made == 4

    @tool
    async def use(self, item: str) -> str:  # type: ignore[override]
        """Use it."""
        if self.guilty:
            await asyncio.sleep(0.1)
            time.sleep(1.5)
        else:
            await asyncio.sleep(0.5)
        return "ok"


def test_a_coroutine_that_blocks_the_loop_fails_alone() -> None:
    Blocks.made = 0
    assert seen(play(Blocks, 4, turn_seconds=0.8, retries=0)) == [("timeout", "TimeoutError")]


def test_the_engine_is_named_when_an_episode_is_over_time() -> None:
    chosen = strategy(Asks, engine=ScriptedEngine([[1]], latency_seconds=30), retries=0)
    table = replace(chosen.table, limits=Limits(episode_seconds=0.3))
    (episode,) = asyncio.run(collect(replace(chosen, table=table), 1))
    assert episode.failure is not None
    words = "episode g0/0, turn 0, the engine: the episode ran longer than 0.3 s"
    assert (episode.failure.kind, episode.failure.message) == ("timeout", words)


def test_no_timer_outlives_the_waits() -> None:
    async def run() -> tuple[Any, float]:
        chosen = strategy(Asks)
        await collect(chosen, 5)
        return chosen.table.watchdog._handle, chosen.table.watchdog.frozen_seconds

    assert asyncio.run(run()) == (None, 0.0)


FOR_EVER = """
import asyncio, ctypes
from agentrl.rollout import watchdog
watchdog.STACKS_SECONDS = 0.3

def holds_the_interpreter():
    ctypes.PyDLL(None).usleep(1_000_000)

async def main():
    with watchdog.Watchdog(print).watch(lambda: "here", 60):
        await asyncio.sleep(0.3)
        holds_the_interpreter()

asyncio.run(main())
"""


def test_a_call_that_never_lets_go_of_the_interpreter_is_named() -> None:
    done = subprocess.run([sys.executable, "-c", FOR_EVER], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "in holds_the_interpreter" in done.stderr, done.stderr


STOPPED = """
import asyncio
from agentrl.rollout import watchdog

async def main():
    dog = watchdog.Watchdog(print)
    with dog.watch(lambda: "here", 1.0, used=lambda: 0.0) as timer:
        async with timer:
            print("ready", flush=True)
            await asyncio.sleep(0.6)
    print(dog.num_evicted, dog.frozen_seconds > 0.5)

asyncio.run(main())
"""


def test_a_process_that_was_stopped_blames_nobody() -> None:
    with subprocess.Popen([sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        process.send_signal(signal.SIGCONT)
        told, _ = process.communicate(timeout=60)
    assert "held the interpreter" not in told and told.splitlines()[-1] == "0 True", told
