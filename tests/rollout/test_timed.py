"""An environment that hangs where no model plays: it is named and let go, as in a rollout."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import gymnasium
import pytest

from agentrl.adapter import Adapter
from agentrl.episode import Episode
from agentrl.errors import DeadlineError
from agentrl.evaluation import evaluate_policy
from agentrl.message import Action, answer, call
from agentrl.policies import ExpertPolicy, play
from agentrl.registry import EnvSpec, Worker
from agentrl.replaying import replay
from agentrl.rollout.protocol import DEFAULT_TURNS, Limits
from agentrl.rollout.watchdog import Watchdog
from agentrl.task import Task
from agentrl.trainers.tiny.play import expert_of, play_many
from tests.rollout.playing import Asks
from tests.rollout.playing import play as roll_out

TASKS = [Task(id=f"t{i}", split="train", level=0, seed=i) for i in range(4)]
SHORT = Limits(turn_seconds=0.5)
HANGING = "episode t1, turn 0, tool 'use': no answer within 0.5 s"


class Hangs(Asks):
    """Its tool hangs in one task, until the environment is closed."""

    hanging = "t1"

    def __init__(self) -> None:
        self.gate = threading.Event()

    async def begin(self, task: Task) -> Any:
        self.name = task.id
        return await super().begin(task)

    def work(self) -> str:
        if self.name == self.hanging:
            self.gate.wait(60)
        return "ok"

    def expert(self, seen: Any) -> Action:
        return call("use", item="x") if len(seen) < 2 else answer("done")

    def close(self) -> None:
        self.gate.set()


class Sticks(Hangs):
    """Its `close` fails in one task."""

    name = ""

    def work(self) -> str:
        return "ok"

    def close(self) -> None:
        if self.name == "t1":
            raise OSError("the disk is gone")


class Endless(gymnasium.Env[str, str]):
    """Names no limit of its own."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        return "go", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return "on", 0.0, False, False, {}

    def expert(self, seen: Any) -> str:
        return "x"


WORKER = Worker(spec=EnvSpec(name="hangs", kind=Hangs), shared=None)


@pytest.fixture
def healed() -> Iterator[None]:
    """Let nothing hang."""
    Hangs.hanging = ""
    yield
    Hangs.hanging = "t1"


def test_a_measured_episode_that_hangs_fails_alone() -> None:
    lines: list[str] = []
    found = asyncio.run(
        evaluate_policy(
            WORKER, TASKS, ExpertPolicy(Hangs()), limits=SHORT, watchdog=Watchdog(report=lines.append)
        )
    )
    (failure,) = [e.failure for e in found if e.failure is not None]
    assert (failure.kind, failure.message) == ("timeout", HANGING)
    assert sum(bool(e.correct) for e in found) == 3 and any("evicted" in line for line in lines)


def test_a_demonstration_that_hangs_is_left_out_or_named() -> None:
    def demonstrations(*, tolerant: bool) -> int:
        played = play_many(WORKER, expert_of(WORKER.spec), TASKS, tolerant=tolerant, limits=SHORT)
        return len(asyncio.run(played))

    assert demonstrations(tolerant=True) == 3
    with pytest.raises(DeadlineError, match=HANGING):
        demonstrations(tolerant=False)


def test_a_demonstration_whose_environment_cannot_be_closed_is_left_out() -> None:
    worker = Worker(spec=EnvSpec(name="sticks", kind=Sticks), shared=None)
    played = play_many(worker, expert_of(worker.spec), TASKS, tolerant=True, limits=SHORT)
    assert [p.task.id for p in asyncio.run(played)] == ["t0", "t2", "t3"]


def recorded() -> Episode:
    async def main() -> Episode:
        env = WORKER.new()
        try:
            return await play(env, TASKS[1], ExpertPolicy(Hangs()))
        finally:
            await env.close()

    return asyncio.run(main())


def test_a_replay_that_hangs_is_named(healed: None) -> None:
    episode = recorded()

    async def again() -> Any:
        env = WORKER.new()
        try:
            return await replay(env, TASKS[1], episode, limits=SHORT)
        finally:
            await env.close()

    assert asyncio.run(again()) is None
    Hangs.hanging = "t1"
    with pytest.raises(DeadlineError, match=HANGING):
        asyncio.run(again())


def test_without_a_limit_of_its_own_an_environment_has_the_same_turns_everywhere() -> None:
    async def turns() -> list[int]:
        worker = Worker(spec=EnvSpec(name="endless", kind=Endless), shared=None)
        measured = await play(Adapter(Endless(), Endless), TASKS[0], ExpertPolicy(Endless()))
        (shown,) = await play_many(worker, expert_of(worker.spec), TASKS[:1])
        return [len(measured.turns), len(shown.turns)]

    (rolled,) = roll_out(Endless)
    assert [*asyncio.run(turns()), len(rolled.turns)] == [DEFAULT_TURNS] * 3
