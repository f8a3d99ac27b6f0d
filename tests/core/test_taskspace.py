"""The tasks of a class are surveyed once, whoever asks for it and however many do."""

import asyncio
import threading
import time
from typing import Any

import numpy as np
import pytest

from agentrl.adapter import Adapter
from agentrl.aio import drive
from agentrl.errors import EnvironmentFault
from agentrl.task import Task
from agentrl.taskspace import Surveys
from agentrl.toolenv import ToolEnv


class Slow(ToolEnv):
    """Draws its tasks slowly, and counts the draws."""

    drawn = 0

    def task(self, rng: np.random.Generator) -> str:
        time.sleep(0.001)
        type(self).drawn += 1
        return f"Say {rng.integers(1 << 40)}."

    def reward(self, answer: str) -> float:
        return 0.0


class SlowOnLoop(Slow):
    """The same, asynchronous."""

    async def task(self, rng: np.random.Generator) -> str:  # type: ignore[override]
        await asyncio.sleep(0.001)
        type(self).drawn += 1
        return f"Say {rng.integers(1 << 40)}."


def named(seed: int) -> Task:
    return Task(id=str(seed), split="train", level=0, seed=seed)


async def started(kind: Any, count: int) -> list[Any]:
    envs = [Adapter(kind(), kind) for _ in range(count)]
    try:
        return await asyncio.gather(*(e.start(named(i)) for i, e in enumerate(envs)), return_exceptions=True)
    finally:
        await asyncio.gather(*(e.close() for e in envs))


@pytest.mark.parametrize("kind", [Slow, SlowOnLoop])
def test_many_episodes_at_once_share_one_survey(kind: type[Slow]) -> None:
    fresh: Any = type("Fresh", (kind,), {"drawn": 0})
    shown = asyncio.run(started(fresh, 30))
    assert len({o.text for o in shown}) == 30
    assert fresh.drawn < 256 + 30 * 10  # a draw is of the right split four times out of five


def test_two_loops_share_one_survey() -> None:
    class Fresh(SlowOnLoop):
        pass

    loops = [threading.Thread(target=lambda: asyncio.run(started(Fresh, 5))) for _ in range(3)]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join(30)
    assert not any(loop.is_alive() for loop in loops) and 256 < Fresh.drawn < 256 + 15 * 10


def test_the_loop_runs_on_while_some_wait_for_a_survey() -> None:
    class Fresh(SlowOnLoop):
        pass

    async def main() -> int:
        starting, ticks = asyncio.ensure_future(started(Fresh, 10)), 0
        while not starting.done():
            await asyncio.sleep(0.001)
            ticks += 1
        return ticks

    assert asyncio.run(main()) > 50  # the survey alone sleeps 256 times as long


def test_a_survey_that_fails_or_is_cancelled_leaves_its_turn_to_the_next() -> None:
    class Fresh(SlowOnLoop):
        broken = True

        async def task(self, rng: np.random.Generator) -> str:  # type: ignore[override]
            await asyncio.sleep(0.001)
            if Fresh.broken:
                Fresh.broken = False
                raise OSError("no data just now")
            return f"Say {rng.integers(1 << 40)}."

    failed, *rest = asyncio.run(started(Fresh, 5))
    assert isinstance(failed, EnvironmentFault) and not any(isinstance(r, Exception) for r in rest)

    class Other(SlowOnLoop):
        pass

    async def main() -> None:
        first, second = (asyncio.ensure_future(Other().begin(named(i))) for i in range(2))
        await asyncio.sleep(0.02)
        first.cancel()
        assert (await second).text
        assert first.cancelled()

    asyncio.run(main())


def test_a_survey_that_hangs_does_not_hold_up_the_rest() -> None:
    go = threading.Event()

    class Fresh(Slow):
        hangs = True
        _surveys = Surveys(patience_seconds=0.1)

        def task(self, rng: np.random.Generator) -> str:
            if Fresh.hangs:
                Fresh.hangs = False
                go.wait(30)
            return f"Say {rng.integers(1 << 40)}."

    hanging = threading.Thread(target=lambda: drive(Fresh().begin(named(0))))
    hanging.start()
    assert [o.text for o in asyncio.run(started(Fresh, 3))] == [
        drive(Fresh().begin(named(i))).text for i in range(3)
    ]
    go.set()
    hanging.join(30)
    assert not hanging.is_alive()
