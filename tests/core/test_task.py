"""Where tasks come from: lists are shuffled once per pass, and no task is measured twice."""

import io
import time
from collections.abc import Callable
from typing import Any

import pytest

from agentrl.measuring import evaluate
from agentrl.progress import progress_for
from agentrl.registry import EnvSpec
from agentrl.task import ListedTasks, Split, Task, TaskSource, derive_seed
from agentrl.toolenv import ToolEnv


def listed(count: int, split: Split = "test") -> tuple[Task, ...]:
    return tuple(Task(id=f"{split}-{i}", split=split, level=0, seed=i) for i in range(count))


class Few(ToolEnv):
    """Has seven tasks of each split."""

    @staticmethod
    def tasks(split: Split, *, level: int, seed: int) -> TaskSource:
        return ListedTasks(tasks=listed(7, split), seed=seed)

    def task(self, rng: Any) -> str:
        return "Say anything."

    def reward(self, answer: str) -> float:
        return 1.0


def test_every_pass_has_an_order_of_its_own_which_never_changes() -> None:
    source = ListedTasks(tasks=listed(50), seed=3)
    for turn in range(4):
        order = sorted(range(50), key=lambda i: derive_seed(3, turn, i))
        assert [t.seed for t in source.take(50)] == order
    assert [source.at(p) for p in (199, 0, 120, 60)] == [
        ListedTasks(tasks=listed(50), seed=3).at(p) for p in (199, 0, 120, 60)
    ]


def test_a_task_costs_little_however_long_the_list_is() -> None:
    def seconds(work: Callable[[], object]) -> float:
        began = time.process_time()
        work()
        return time.process_time() - began

    source = ListedTasks(tasks=listed(20_000))
    first = seconds(lambda: source.at(0))
    assert seconds(lambda: [source.at(p) for p in range(1000)]) < 5 * first


@pytest.mark.parametrize(("wanted", "found"), [(3, 3), (7, 7), (100, 7)])
def test_no_task_is_measured_twice(wanted: int, found: int) -> None:
    screen = io.StringIO()
    spec = EnvSpec(name="few", kind=Few)
    (row,) = evaluate(spec, policies=["random"], tasks=wanted, progress=progress_for(screen))["results"]
    assert row["episodes"] == found
    said = "few has 7 test tasks, not 100: each is attempted once" in screen.getvalue()
    assert said == (wanted > found), screen.getvalue()
