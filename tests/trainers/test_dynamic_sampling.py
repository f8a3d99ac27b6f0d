"""DAPO's dynamic sampling: groups that cannot teach are replaced, up to a bound."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from agentrl.episode import Episode, ScoredGroup
from agentrl.errors import ConfigError
from agentrl.rollout.protocol import WorkItem
from agentrl.trainers.dapo import dapo
from agentrl.trainers.grpo import grpo
from agentrl.trainers.parts import StepContext
from agentrl.trainers.standard import DropFlat
from tests.trainers.looping import run_given, run_say
from tests.trainers.making import context, episode, scored, scored_group

Make = Callable[[WorkItem, int], Episode]


def flat_where(is_flat: Callable[[int], bool], seen: list[WorkItem]) -> Make:
    """Groups of the numbers that `is_flat` names have one reward; the others differ within."""

    def make(item: WorkItem, index: int) -> Episode:
        if index == 0:
            seen.append(item)
        number = int(item.group_id.split("-")[1])
        reward = 0.5 if is_flat(number) else float(index % 2)
        made = episode(f"{item.group_id}/{index}", reward, context(index, [2]))
        return replace(made, group_id=item.group_id)

    return make


def test_groups_that_cannot_teach_are_replaced() -> None:
    seen: list[WorkItem] = []
    recipe = dapo(steps=2, groups_per_step=4, group_size=2)
    (first, second), _ = run_given(flat_where(lambda n: n % 2 == 0, seen), recipe)
    # 4 sampled, 2 of them flat; 2 more, 1 of them flat; 1 more, flat; 1 more.
    assert first.groups == second.groups == 8
    assert first.zero_variance_groups == 4 and first.dropped == {"flat": 8}
    assert first.episodes == 16 and first.trained_tokens == 4 * 2 * 2
    assert [item.group_id.split("-")[:2] for item in seen[:8]] == [["0", str(n)] for n in range(8)]
    assert len({item.seed for item in seen}) == len({item.task.id for item in seen}) == 16


def test_sampling_again_has_a_bound() -> None:
    seen: list[WorkItem] = []
    recipe = dapo(steps=1, groups_per_step=4, group_size=2, max_generations=3)
    ((metrics,), _) = run_given(flat_where(lambda n: n > 0, seen), recipe)
    assert metrics.groups == 4 + 3 + 3 and metrics.trained_tokens == 4
    assert not metrics.skipped and metrics.dropped == {"flat": 18}


def test_a_step_without_a_group_that_teaches_is_skipped() -> None:
    recipe = dapo(steps=1, groups_per_step=3, group_size=2, max_generations=2)
    ((metrics,), loop) = run_given(flat_where(lambda n: True, []), recipe)
    assert metrics.skipped and metrics.groups == 6 and loop.updater.version == 0


def test_one_generation_drops_without_replacing() -> None:
    seen: list[WorkItem] = []
    recipe = dapo(steps=1, groups_per_step=4, group_size=2, max_generations=1)
    ((metrics,), _) = run_given(flat_where(lambda n: n % 2 == 0, seen), recipe)
    assert metrics.groups == 4 and metrics.dropped == {"flat": 4} and metrics.trained_tokens == 8


def test_dropping_changes_what_tokens_are_divided_by() -> None:
    """Without the filter, flat groups stay in the denominator: that is GRPO."""
    make = flat_where(lambda n: n % 2 == 0, [])
    ((kept,), _) = run_given(make, grpo(steps=1, groups_per_step=4, group_size=2, minibatches=1))
    recipe = dapo(steps=1, groups_per_step=4, group_size=2, minibatches=1, max_generations=1)
    ((dropped,), _) = run_given(make, recipe)
    assert kept.trained_tokens == 2 * dropped.trained_tokens
    assert dropped.grad_norm == pytest.approx(2 * kept.grad_norm, rel=1e-5)


def test_a_run_with_refills_is_a_function_of_its_seed() -> None:
    recipe = dapo(steps=4, groups_per_step=3, group_size=3, learning_rate=1e-2)
    (first, weights), (again, same) = (run_say(5, recipe=recipe) for _ in range(2))
    assert weights == same and [m.groups for m in first] == [m.groups for m in again]
    assert max(m.groups for m in first) > 3


def test_refilling_needs_something_that_leaves_groups_out() -> None:
    with pytest.raises(ConfigError, match="max_generations=3: without use here"):
        replace(grpo(), max_generations=3)
    with pytest.raises(ConfigError, match="max_generations=0: need 1 or more"):
        dapo(max_generations=0)


# ------------------------------------------------------------------ what counts as flat


def test_metrics_of_flatness() -> None:
    """Penalties make rewards differ where the environment's word is one."""
    members = [
        replace(e, reward=e.reward - 0.1 * i) for i, e in enumerate(scored_group("a", [1, 1]).episodes)
    ]
    group = ScoredGroup(id="a", episodes=tuple(members))
    assert DropFlat()(group, StepContext()).dropped == {"flat": 2}
    assert DropFlat(metric="reward")(group, StepContext()) is group
    with pytest.raises(ConfigError, match="a does not say whether an episode is correct; take 'score'"):
        DropFlat(metric="correct")(group, StepContext())


def test_correctness_decides_where_asked() -> None:
    one, two = scored("a/0", 0.3, context(0, [1])), scored("a/1", 0.9, context(1, [1]))
    wrong = replace(one, episode=replace(one.episode, correct=False))
    also = replace(two, episode=replace(two.episode, correct=False))
    right = replace(two, episode=replace(two.episode, correct=True))
    drop = DropFlat(metric="correct")
    assert drop(ScoredGroup(id="a", episodes=(wrong, also)), StepContext()).episodes == ()
    assert len(drop(ScoredGroup(id="a", episodes=(wrong, right)), StepContext()).episodes) == 2


@pytest.mark.parametrize("count", [0, 1])
def test_what_is_left_of_a_failed_group_is_flat(count: int) -> None:
    group = scored_group("a", [1.0] * count)
    assert DropFlat()(group, StepContext()).episodes == ()
