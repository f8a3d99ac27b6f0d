"""What failures cost: the budget, and whether they go along with reward."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.cli.main import exit_code
from agentrl.episode import Episode, Failure, Group
from agentrl.errors import ConfigError, EngineError
from agentrl.rollout.protocol import WorkItem
from agentrl.task import Task
from agentrl.trainers.checkpoints import pack, unpack
from agentrl.trainers.failures import FailureBudgetSpent, FailureShares, FailureWatch
from agentrl.trainers.metrics import RolloutStats
from agentrl.trainers.optimiser import NonFiniteError
from agentrl.trainers.recipe import FailureBudget
from agentrl.trainers.run.measure import Measured, measure
from tests.trainers.making import episode


def played(name: str, reward: float = 0.0, *, failed: bool = False, retried: int = 0) -> Episode:
    lost = Failure(kind="sandbox", message="gone", caused_by="OSError", turn=0)
    made = episode(name, reward, finish="failed" if failed else "terminated")
    return replace(made, retried=(lost,) * retried)


def group(name: str, reward: float, *, whole: int, failed: int = 0, retried: int = 0) -> Group:
    good = [played(f"{name}/{i}", reward, retried=retried if i == 0 else 0) for i in range(whole)]
    bad = [played(f"{name}/f{i}", failed=True) for i in range(failed)]
    return Group(id=name, episodes=(*good, *bad))


def test_an_escape_shows_as_failures_where_reward_is_low() -> None:
    """By hand: 4 of 8 attempts fail in the poor groups, 1 of 9 in the rich ones, 2 of 2 in the lost one."""
    groups = [
        group("a", 0.0, whole=2, failed=2),
        group("b", 0.1, whole=2, failed=2),
        group("c", 0.9, whole=4),
        group("d", 1.0, whole=4, retried=1),
        group("lost", 0.0, whole=0, failed=2),
    ]
    shares = FailureShares.of(groups)
    assert (shares.low, shares.high) == (4 / 8, 1 / 9)
    assert shares.share == 7 / 19
    stats = RolloutStats.of(groups, version=0)
    assert stats.failures == {"tool": 6} and stats.retried == {"sandbox": 1}
    assert stats.reward_mean == pytest.approx((2 * 0.0 + 2 * 0.1 + 4 * 0.9 + 4 * 1.0) / 12)


def test_groups_of_one_reward_are_not_compared() -> None:
    shares = FailureShares.of([group("a", 1.0, whole=2, failed=1), group("b", 1.0, whole=3)])
    assert shares == FailureShares(share=1 / 6, low=None, high=None)


sizes = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 4), st.integers(0, 4)).filter(lambda t: t[1] + t[2] > 0),
    max_size=8,
)


@given(sizes=sizes)
def test_shares_are_shares_and_order_does_not_matter(sizes: list[tuple[float, int, int]]) -> None:
    groups = [group(f"g{i}", r, whole=w, failed=f) for i, (r, w, f) in enumerate(sizes)]
    shares = FailureShares.of(groups)
    assert shares == FailureShares.of(groups[::-1])
    assert all(s is None or 0 <= s <= 1 for s in (shares.share, shares.low, shares.high))
    assert (shares.low is None) == (shares.high is None)


def test_the_budget_counts_attempts_that_were_repeated() -> None:
    """Every episode succeeds at the second attempt: half of all attempts failed, and that is shown."""
    watch = FailureWatch(FailureBudget(share=0.4, window=64, minimum=16))
    watch.add(*(played(f"e/{i}", retried=1) for i in range(7)))
    words = (
        r"8 of the last 16 attempts failed \(allowed 40%\), 8 of class 'sandbox'; episode e/7: gone \(OSErr"
    )
    with pytest.raises(FailureBudgetSpent, match=words) as stopped:
        watch.add(played("e/7", retried=1))
    assert exit_code(stopped.value) == 3
    assert [exit_code(e) for e in (ConfigError("x"), EngineError("x"))] == [2, 1]


def test_the_budget_forgets() -> None:
    watch = FailureWatch(FailureBudget(share=0.2, window=20, minimum=10))
    for turn in range(20):
        watch.add(*(played(f"{turn}/{i}") for i in range(9)), played(f"{turn}/9", failed=True))


def test_the_first_failure_of_each_kind_is_told() -> None:
    lines: list[str] = []
    watch = FailureWatch(FailureBudget(share=0.9, window=64, minimum=64), lines.append)
    watch.add(played("a/0", retried=2), played("a/1", failed=True), played("a/2", retried=1))
    assert lines == [
        "sandbox failure in episode a/0: gone (OSError); attempted again",
        "tool failure in episode a/1: the disk is full",
    ]


def test_a_resumed_run_remembers_the_attempts_before(tmp_path: Path) -> None:
    """A run that is killed again and again does not get a fresh budget each time."""
    budget = FailureBudget(share=0.5, window=20, minimum=10)
    watch = FailureWatch(budget)
    watch.add(*(played(f"a/{i}") for i in range(4)), *(played(f"b/{i}", failed=True) for i in range(5)))
    resumed = FailureWatch(budget)
    file = tmp_path / "state.safetensors"
    file.write_bytes(b"".join(pack({"attempts": watch.state_dict()})))
    resumed.load_state_dict(unpack(file)["attempts"])
    assert resumed.state_dict() == watch.state_dict()
    with pytest.raises(FailureBudgetSpent, match="6 of the last 10 attempts failed"):
        resumed.add(played("c/0", failed=True))


@dataclass
class Failing:
    """A strategy of which the first episodes fail."""

    count: int

    async def collect(self, work: Sequence[WorkItem]) -> AsyncIterator[Group]:
        for index, item in enumerate(work):
            one = played(f"{item.group_id}/0", failed=index < self.count)
            yield Group(id=item.group_id, episodes=(replace(one, task_id=item.task.id),))


@pytest.mark.parametrize(("failing", "of", "some"), [(3, 3, "all 3"), (5, 20, "5 of 20")])
def test_a_measurement_of_which_too_much_failed_ends_the_run(failing: int, of: int, some: str) -> None:
    tasks = [Task(id=f"t{i}", split="test", level=0, seed=i) for i in range(of)]
    said = f"{some} episodes of a measurement failed; the first, eval-t0/0"
    with pytest.raises(FailureBudgetSpent, match=said) as caught:
        measured(Failing(failing), tasks)
    assert exit_code(caught.value) == 3


@pytest.mark.parametrize(("failing", "of"), [(1, 2), (4, 20)])
def test_a_few_failures_are_left_out_of_a_measurement(failing: int, of: int) -> None:
    tasks = [Task(id=f"t{i}", split="test", level=0, seed=i) for i in range(of)]
    found = measured(Failing(failing), tasks)
    assert sum(found.sampled.failures.values()) == failing and found.sampled.episodes == of


def measured(strategy: Failing, tasks: list[Task]) -> Measured:
    return asyncio.run(measure(lambda _: strategy, tasks, temperature=1.0, seed=0, budget=FailureBudget()))


def test_a_loss_that_is_no_number_ends_the_run_in_one_line() -> None:
    assert exit_code(NonFiniteError("the loss is nan")) == 3
