"""Any environment behind one asynchronous face."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import gymnasium
import pytest

from agentrl.adapter import Adapter
from agentrl.environment import ForkUnsupported
from agentrl.errors import EnvironmentFault, InfrastructureError, RewardError
from agentrl.message import Action, Image, Text, answer
from agentrl.registry import EnvSpec, resolve_env
from agentrl.task import Task
from agentrl.toolenv import ToolEnv
from tests.waiting import soon

TASK = Task(id="t", split="train", level=0, seed=5)


class Guess(gymnasium.Env[str, str]):
    """A plain environment, as Gymnasium teaches it."""

    deterministic = True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.target = int(self.np_random.integers(1, 9))
        return "Guess 1..8.", {}

    def step(self, action: str) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        hit = action == str(self.target)
        return ("Yes." if hit else "No."), float(hit), hit, False, {"correct": hit}


class Jittery(Guess):
    """Shows the clock."""

    def step(self, action: str) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        return str(time.perf_counter_ns()), 0.0, False, False, {}


class Sudden(Guess):
    """Raises."""

    def step(self, action: str) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        raise KeyError("x")


class Bytes(Guess):
    """Shows bytes."""

    def step(self, action: str) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        return b"", 0.0, False, False, {}


class NotANumber(Guess):
    """Rewards with NaN."""

    def step(self, action: str) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        return "", float("nan"), False, False, {}


class Native:
    """An environment that is asynchronous by itself."""

    async def reset(self, *, seed: int, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        self.thread = threading.current_thread()
        return [Text("two pictures:"), *(Image(media=f"{i}.png", width=4, height=4) for i in range(2))], {}

    async def step(self, action: str) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        await asyncio.sleep(0)
        return "done", 0.5, True, False, {"correct": False, "reward_parts": {"half": 0.5}}


async def played(kind: Any, *actions: str) -> list[Any]:
    env = Adapter(kind(), kind)
    try:
        await env.start(TASK)
        results: list[Any] = []
        for action in actions:
            if not (results and results[-1].done):
                results.append(await env.act(answer(action)))
        return results
    finally:
        await env.close()


def test_a_plain_environment_is_played_in_a_thread_of_its_own() -> None:
    results = asyncio.run(played(Guess, *map(str, range(1, 9))))
    assert sum(r.reward for r in results) == 1.0 and sum(bool(r.correct) for r in results) == 1


def test_a_natively_asynchronous_environment_runs_on_the_loop_and_shows_pictures() -> None:
    async def play() -> None:
        raw = Native()
        env = Adapter(raw, Native)
        first = await env.start(TASK)
        assert [type(p) for p in first.parts] == [Text, Image, Image]
        assert raw.thread is threading.current_thread()
        result = await env.act(answer("x"))
        assert (result.reward, result.correct, dict(result.reward_parts)) == (0.5, False, {"half": 0.5})
        await env.close()

    asyncio.run(play())


@pytest.mark.parametrize(
    ("kind", "error", "cue"),
    [
        (Sudden, EnvironmentFault, "Sudden raised KeyError"),
        (Bytes, InfrastructureError, "observation of type bytes"),
        (NotANumber, RewardError, "reward nan is not finite"),
    ],
)
def test_a_broken_contract_is_named(kind: Any, error: type[Exception], cue: str) -> None:
    with pytest.raises(error, match=cue):
        asyncio.run(played(kind, "1"))


def test_rounding_costs_no_solved_task() -> None:
    class Silent(Guess):
        def step(self, action: str) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
            return "", 0.7 + 0.2 + 0.1, True, False, {}

    assert asyncio.run(played(Silent, "1"))[0].correct is True


def test_fork_by_replay_and_its_refusal() -> None:
    async def fork(kind: Any) -> Any:
        env = Adapter(kind(), kind)
        await env.start(TASK)
        await env.act(answer("none"))
        try:
            twin = await env.fork()
        finally:
            await env.close()
        results: list[Any] = []
        for i in range(1, 9):
            if not (results and results[-1].done):
                results.append(await twin.act(answer(str(i))))
        with pytest.raises(EnvironmentFault, match="call reset first"):
            await twin.act(answer("1"))
        await twin.close()
        return results

    assert sum(r.reward for r in asyncio.run(fork(Guess))) == 1.0
    with pytest.raises(ForkUnsupported, match="replay differs at the observation of turn 0"):
        asyncio.run(fork(Jittery))


def test_close_unblocks_a_hanging_step() -> None:
    class Hangs(Guess):
        def __init__(self) -> None:
            self.go = threading.Event()

        def step(self, action: str) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
            self.go.wait(30)
            return "", 0.0, False, False, {}

        def close(self) -> None:
            self.go.set()

    async def play() -> float:
        env = Adapter(Hangs(), Hangs)
        await env.start(TASK)
        step = asyncio.create_task(env.act(Action(text="x")))
        await asyncio.sleep(0.02)
        began = time.perf_counter()
        await env.close()
        await env.close()
        with pytest.raises(EnvironmentFault, match="closed while a step ran"):
            await step
        return time.perf_counter() - began

    before = threading.active_count()
    assert asyncio.run(play()) < 2
    assert soon(lambda: threading.active_count() <= before)  # an idle thread ends by itself


class Counted(ToolEnv):
    """Its tools block, its `close` is asynchronous and really waits; counts what was closed."""

    closed = 0

    def task(self, rng: Any) -> str:
        return "Say something."

    def reward(self, answer: str) -> float:
        assert threading.current_thread().name == "env-Counted"
        return 1.0

    async def close(self) -> None:  # type: ignore[override]
        await asyncio.sleep(0.001)
        type(self).closed += 1


def test_an_asynchronous_close_of_a_blocking_environment_runs() -> None:
    class CountedGuess(Guess):
        closed = 0

        async def close(self) -> None:  # type: ignore[override]
            await asyncio.sleep(0.001)
            type(self).closed += 1

    asyncio.run(played(CountedGuess, "1"))
    assert CountedGuess.closed == 1
    before = Counted.closed
    assert asyncio.run(played(Counted, "1"))[0].correct is True
    assert Counted.closed == before + 2  # one more is the instance on which the tasks were surveyed


def test_a_close_that_fails_is_named() -> None:
    class Sticks(Guess):
        async def close(self) -> None:  # type: ignore[override]
            raise OSError("the disk is gone")

    with pytest.raises(EnvironmentFault, match=r"Sticks.close\(\) raised OSError: the disk is gone"):
        asyncio.run(played(Sticks, "1"))


class Pooled(Guess):
    """Takes its secret from a resource that all instances share."""

    shared: Any = None
    opened = 0

    def __init__(self, *, size: int = 2) -> None:
        self.size = size

    @classmethod
    @asynccontextmanager
    async def open_shared(cls, *, size: int = 2) -> AsyncIterator[list[int]]:
        cls.opened += 1
        pool = list(range(size))
        yield pool
        pool.clear()

    def step(self, action: str) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        return f"{len(self.shared)} left", 0.0, False, False, {}


def test_shared_resources_are_opened_once_per_worker() -> None:
    async def play() -> None:
        async with EnvSpec(name="pooled", kind=Pooled, settings={"size": 3}).open() as worker:
            for _ in range(2):
                env = worker.new()
                await env.start(TASK)
                assert (await env.act(answer(""))).observation.text == "3 left"
                await env.close()
            pool = worker.shared
        assert Pooled.opened == 1 and pool == []

    asyncio.run(play())


def test_names_and_settings_are_resolved_or_refused(tmp_path: Any) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "class Mine:\n    def __init__(self, size: int = 1): self.size = size\n"
        "    def reset(self): pass\n    def step(self): pass\nVALUE = 1\nclass Not: pass\n"
    )
    for name, cue in (("VALUE", "is a int"), ("Not", "no reset and no step")):
        with pytest.raises(ValueError, match=cue):
            resolve_env(f"{file}:{name}")
    with pytest.raises(ValueError, match="did you mean '.*mine.py:Mine'"):
        resolve_env(str(file))
    with pytest.raises(ValueError, match="is str: it must be int"):
        resolve_env(f"{file}:Mine", size="abc")
    with pytest.raises(ValueError, match="did you mean 'agentrl/Code-v0'"):
        resolve_env("agentrl/Code-v9")
    assert resolve_env(f"{file}:Mine", size=4).make().size == 4
    with pytest.raises(ValueError, match="did you mean 'size'"):
        resolve_env(f"{file}:Mine", siz=4)
    with pytest.raises(ValueError, match="did you mean 'Mine'"):
        resolve_env(f"{file}:Min")
    with pytest.raises(ValueError, match="did you mean 'mine.py'"):
        resolve_env(f"{tmp_path}/mien.py:Mine")
    with pytest.raises(ValueError, match="did you mean 'code'"):
        resolve_env("coed")


class Sized:
    """Takes a setting; stands behind `ToolEnv` in the order of bases."""

    def __init__(self, *, size: int = 1) -> None:
        self.size = size


class Bare(ToolEnv):
    """Has no constructor of its own."""


class Mixed(ToolEnv, Sized):
    """Has one that it inherits."""


def test_an_environment_without_a_constructor_refuses_settings() -> None:
    here = f"{__name__}:"
    for key, value in (("max_turns", 20), ("hihg", 50)):
        with pytest.raises(ValueError, match=rf"Bare: no setting '{key}': its class has no __init__"):
            resolve_env(f"{here}Bare", **{key: value})
    with pytest.raises(TypeError, match="Bare takes no settings"):
        Bare(hihg=50)
    with pytest.raises(ValueError, match="no setting 'siz'; did you mean 'size'"):
        resolve_env(f"{here}Mixed", siz=4)
    assert resolve_env(f"{here}Mixed", size=4).make().size == 4
    assert isinstance(resolve_env(f"{here}Bare").make(), Bare)
