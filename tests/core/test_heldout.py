"""Whether the tasks that measure are held out of training is looked at, not assumed."""

import asyncio
from typing import Any

import gymnasium
import numpy as np
import pytest

from agentrl.heldout import HeldOut, compare_splits, estimated_size
from agentrl.registry import EnvSpec
from agentrl.toolenv import ToolEnv


class Plain(gymnasium.Env[str, str]):
    """Its tasks are the numbers below `high`; the splits are not its concern."""

    def __init__(self, *, high: int = 20) -> None:
        self.high = high

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.n = int(self.np_random.integers(self.high))
        return "Guess.", {}

    def step(self, action: str) -> Any:
        return "", float(action == str(self.n)), True, False, {}


class Tooled(ToolEnv):
    """The same as a `ToolEnv`, which keeps its splits apart where there are enough tasks."""

    def __init__(self, *, high: int = 20) -> None:
        self.high = high

    def task(self, rng: np.random.Generator) -> str:
        self.n = int(rng.integers(self.high))
        return "Guess."

    def reward(self, answer: str) -> float:
        return float(answer == str(self.n))


class Broken(Plain):
    """It cannot start."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        raise OSError("no data")


def looked_at(kind: Any, **settings: Any) -> HeldOut:
    spec = EnvSpec(name="here", kind=kind, settings=settings)

    async def look() -> HeldOut:
        async with spec.open() as worker:
            return await compare_splits(
                worker, spec.tasks("train", seed=0), spec.tasks("test", seed=1).take(100)
            )

    return asyncio.run(look())


@pytest.mark.parametrize("kind", [Plain, Tooled])
def test_few_tasks_are_trained_on_as_well_and_it_says_so(kind: type) -> None:
    found = looked_at(kind, high=5)
    assert (found.measured, found.trained, found.share, round(found.size)) == (5, 5, 1.0, 5)
    assert found.notice.startswith(
        "5 of 5 test tasks are trained on as well: there are about 5 different tasks"
    )


@pytest.mark.parametrize(("kind", "high"), [(Plain, 10**9), (Tooled, 10**9), (Tooled, 1000)])
def test_held_out_tasks_are_not_spoken_of(kind: type, high: int) -> None:
    found = looked_at(kind, high=high)
    assert (found.trained, found.share, found.notice) == (0, 0.0, "")


def test_what_fails_here_is_left_to_the_rollout() -> None:
    assert looked_at(Broken).notice == ""


@pytest.mark.parametrize("size", [31, 499, 5000])
def test_the_estimate_is_near_the_truth(size: int) -> None:
    draws = np.random.default_rng(0).integers(size, size=1000)
    assert estimated_size(1000, len(set(draws.tolist()))) == pytest.approx(size, rel=0.15)
