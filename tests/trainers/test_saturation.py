"""Stopping early: by the mean of the last steps, never by one lucky step, and only where it was asked for."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import pytest

from agentrl.errors import ConfigError
from agentrl.trainers.grpo import grpo
from agentrl.trainers.metrics import StepMetrics
from agentrl.trainers.saturation import Saturation
from tests.trainers.test_loop import run_say

RECIPE = grpo(steps=40, groups_per_step=4, group_size=8, learning_rate=2e-2, warmup_steps=0)


@pytest.fixture(scope="module")
def one_step() -> StepMetrics:
    """The metrics of a real step."""
    metrics, _ = run_say(0, steps=1)
    return metrics[0]


def steps(one: StepMetrics, successes: Sequence[float | None]) -> list[StepMetrics]:
    return [replace(one, step=i + 1, steps=99, success=s) for i, s in enumerate(successes)]


def test_the_mean_of_the_window_decides(one_step: StepMetrics) -> None:
    stop = Saturation(success=0.9, window=3)
    assert stop(steps(one_step, [1.0, 1.0])) is None, "two steps are no window of three"
    assert stop(steps(one_step, [1.0, 1.0, 0.6])) is None
    assert stop(steps(one_step, [0.1, 0.8, 0.9, 0.9])) is None
    assert stop(steps(one_step, [1.0, None, 1.0])) is None, "a step without judgement says nothing"
    reason = stop(steps(one_step, [0.0, 0.8, 1.0, 0.9]))
    assert reason is not None and "success 0.900 over the last 3 steps" in reason and "step 4 of 99" in reason


def test_a_run_ends_when_it_is_saturated() -> None:
    stopped, _ = run_say(0, recipe=replace(RECIPE, stop=Saturation(success=0.8, window=3)))
    whole, _ = run_say(0, recipe=replace(RECIPE, stop=None))
    assert len(stopped) < len(whole) == 40
    successes = [m.success or 0.0 for m in whole]
    first = next(i for i in range(3, 41) if fmean(successes[i - 3 : i]) >= 0.8)
    assert len(stopped) == first
    assert [m.success for m in stopped] == successes[:first], "until then both are the same run"


def test_who_stops_by_default() -> None:
    assert grpo().resolved(from_scratch=True).stop == Saturation(success=0.985)
    assert grpo().resolved(from_scratch=False).stop is None
    assert grpo(stop_success=0).resolved(from_scratch=True).stop is None
    assert grpo(stop_success=0.5).resolved(from_scratch=False).stop == Saturation(success=0.5)
    with pytest.raises(ConfigError, match=r"stop_success=1.5: need a value in \(0, 1\]"):
        grpo(stop_success=1.5)
