"""The loop, with a real engine and the smallest task there is: say the token that pays."""

import asyncio
import re
import warnings
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

import pytest
import torch

from agentrl.engine.protocol import Capabilities
from agentrl.engine.scripted import ScriptedEngine
from agentrl.environment import Observation
from agentrl.episode import Context, Episode, Group, ScoredGroup, Segment, Turn, as_ids
from agentrl.errors import ConfigError, RewardError
from agentrl.message import Action
from agentrl.rollout.protocol import WorkItem
from agentrl.task import SeededTasks
from agentrl.trainers.batch import Row, TrainBatch
from agentrl.trainers.dr_grpo import dr_grpo
from agentrl.trainers.failures import FailureBudgetSpent
from agentrl.trainers.grpo import grpo
from agentrl.trainers.parts import StepContext, StepEnd
from agentrl.trainers.recipe import Recipe
from agentrl.trainers.reinforce_pp import reinforce_pp
from agentrl.trainers.rloo import rloo
from agentrl.trainers.run.loop import Loop
from agentrl.trainers.standard.rewards import LARGEST
from agentrl.trainers.updater import Updater
from tests.trainers.looping import Given, one_action, run_given, run_say
from tests.trainers.making import columns, context, episode, small_model


def test_the_token_that_pays_is_learnt() -> None:
    metrics, _ = run_say(0)
    assert [m.step for m in metrics] == list(range(1, 13))
    assert metrics[0].reward_mean < 0.3 and metrics[-1].reward_mean > 0.9
    first = metrics[0]
    assert first.episodes == 32 and first.groups == 4 and first.sampled_tokens == first.trained_tokens == 64
    assert first.entropy > 0.5 and first.staleness == 0 and first.failures == {} == first.dropped
    assert first.learning_rate == pytest.approx(2e-2) and metrics[-1].learning_rate == pytest.approx(2e-3)
    assert first.success is not None and first.tool_calls == 0 and first.version == 1
    assert first.idle_share is not None and 0 <= first.idle_share <= 1
    assert 0 < first.rollout_seconds + first.train_seconds <= first.step_seconds
    assert max(m.mismatch_max for m in metrics) < 1e-4, "engine and trainer differ on the same weights"


def test_a_run_is_a_function_of_its_seed() -> None:
    (first, weights), (again, same), (_, other) = (
        run_say(3, steps=3),
        run_say(3, steps=3),
        run_say(4, steps=3),
    )
    assert weights == same != other
    assert [m.reward_mean for m in first] == [m.reward_mean for m in again]


def test_a_step_that_cannot_teach_is_counted() -> None:
    metrics, loop = run_given(one_action(0.7), grpo(steps=2, groups_per_step=3, group_size=2))
    assert [m.skipped for m in metrics] == [True, True]
    assert metrics[0].zero_variance_groups == metrics[0].groups == 3
    assert loop.updater.version == 0 and metrics[0].success is None
    assert isinstance(loop.strategy, Given) and loop.strategy.closed == ["closed"] * 2


def mostly_failing(every: int) -> Callable[[WorkItem, int], Episode]:
    def make(item: WorkItem, index: int) -> Episode:
        name = f"{item.group_id}/{index}"
        finish = "terminated" if index % every else "failed"
        made = episode(name, float(index % 2), context(index, [2]), finish=finish)  # type: ignore[arg-type]
        return replace(made, group_id=item.group_id)

    return make


def test_failures_are_counted_and_the_rest_is_trained() -> None:
    recipe = grpo(steps=1, groups_per_step=2, group_size=8)
    ((metrics,), _) = run_given(mostly_failing(8), recipe)
    assert metrics.failures == {"tool": 2} and metrics.dropped == {"failed": 2}
    assert metrics.episodes == 16 and not metrics.skipped
    assert metrics.reward_mean == pytest.approx(4 / 7)
    assert metrics.trained_tokens == 28


def test_too_many_failures_end_the_run() -> None:
    message = r"6 of the last 18 .* \(allowed 20%\), 6 of class 'tool'; episode 0-2-\S+/3: the disk is full"
    with pytest.raises(FailureBudgetSpent, match=message):
        run_given(mostly_failing(3), grpo(steps=1, groups_per_step=8, group_size=6))


def test_few_failures_at_the_start_do_not_end_it() -> None:
    run_given(mostly_failing(2), grpo(steps=1, groups_per_step=3, group_size=5, failure_share=0.0))
    with pytest.raises(FailureBudgetSpent):
        run_given(mostly_failing(2), grpo(steps=1, groups_per_step=4, group_size=5, failure_share=0.0))


def test_a_group_of_failures_is_left_out() -> None:
    def make(item: WorkItem, index: int) -> Episode:
        finish = "failed" if item.group_id.startswith("0-0") else "terminated"
        made = episode(f"{item.group_id}/{index}", float(index), context(index, [1]), finish=finish)  # type: ignore[arg-type]
        return replace(made, group_id=item.group_id)

    ((metrics,), _) = run_given(make, grpo(steps=1, groups_per_step=3, group_size=2))
    assert metrics.groups == 3 and metrics.zero_variance_groups == 1 and not metrics.skipped


def test_a_reward_that_is_no_number_is_named() -> None:
    with pytest.raises(RewardError, match=r"episode 0-0-\S+/0: reward nan is no finite number"):
        run_given(one_action(float("nan")), grpo(steps=1, groups_per_step=1, group_size=2))


@pytest.mark.parametrize("value", [1e16, -1e200])
def test_a_reward_too_large_to_train_on_is_named(value: float) -> None:
    with pytest.raises(
        RewardError, match=rf"/0: reward {re.escape(str(value))} is too large .* at most 1e\+15"
    ):
        run_given(one_action(value), grpo(steps=1, groups_per_step=1, group_size=2))


@pytest.mark.parametrize("algorithm", [grpo, dr_grpo, rloo, reinforce_pp])
def test_the_largest_reward_teaches(algorithm: Callable[..., Recipe]) -> None:
    def make(item: WorkItem, index: int) -> Episode:
        made = episode(f"{item.group_id}/{index}", LARGEST * (-1) ** index, context(index, [3]))
        return replace(made, group_id=item.group_id)

    ((metrics,), _) = run_given(make, algorithm(steps=1, groups_per_step=2, group_size=4, minibatches=1))
    assert not metrics.skipped and 0 < metrics.grad_norm < float("inf")


@pytest.mark.parametrize("limit", ["of turns", "of tokens"])
def test_truncated_episodes_can_be_masked(limit: str) -> None:
    def make(item: WorkItem, index: int) -> Episode:
        made = replace(one_action(float(index))(item, index), group_id=item.group_id)
        if index:
            return made
        cut = Turn(index=0, action=Action(text="half"), observation=Observation(), cut_off=True)
        return replace(made, finish="max_turns") if limit == "of turns" else replace(made, turns=(cut,))

    ((kept,), _) = run_given(make, grpo(steps=1, groups_per_step=1, group_size=3))
    ((masked,), _) = run_given(make, grpo(steps=1, groups_per_step=1, group_size=3, truncation="mask"))
    assert (kept.trained_tokens, masked.trained_tokens) == (6, 4)
    assert kept.truncated_share == masked.truncated_share == pytest.approx(1 / 3)


def test_every_stage_is_called_in_its_order() -> None:
    order: list[str] = []

    def reward(group: ScoredGroup, context: StepContext) -> ScoredGroup:
        order.append("reward")
        return group

    def drop_last(group: ScoredGroup, context: StepContext) -> ScoredGroup:
        order.append("group")
        return group.with_episodes(group.episodes[:-1], dropped="last")

    def estimate(batch: TrainBatch, context: StepContext) -> torch.Tensor:
        order.append("advantage")
        assert "old" in batch.columns and "old_entropy" in batch.columns
        return batch.spread(batch.reward_E)

    estimate.reads = frozenset({"old_entropy"})  # type: ignore[attr-defined]

    def halve(advantage_N: torch.Tensor, batch: TrainBatch, context: StepContext) -> torch.Tensor:
        order.append("shaper")
        assert context.scorer is not None
        scores = context.scorer([Row.of(e.episode.contexts[0]) for e in batch.episodes])
        torch.testing.assert_close(scores.logp_N, batch.columns["old"], rtol=0, atol=1e-5)
        return advantage_N / 2

    def look(end: StepEnd) -> None:
        order.append("callback")
        end.context.state.setdefault("look", {})[end.groups[0].id] = end.metrics.step
        assert set(end.advantage_N.tolist()) == {0.0, 0.5}

    recipe = replace(
        grpo(steps=1, groups_per_step=1, group_size=3),
        reward_transforms=(reward,),
        group_transforms=(drop_last,),
        advantage=estimate,
        shapers=(halve,),
        callbacks=(look,),
    )

    def make(item: WorkItem, index: int) -> Episode:
        return replace(episode(f"g/{index}", float(index), context(index, [2])), group_id=item.group_id)

    ((metrics,), loop) = run_given(make, recipe)
    assert order == ["reward", "group", "advantage", "shaper", "callback"]
    assert metrics.dropped == {"last": 1} and metrics.trained_tokens == 4
    assert list(loop.state["look"].values()) == [1]


def test_an_engine_that_cannot_train_is_refused() -> None:
    class Blind(ScriptedEngine):
        @property
        def capabilities(self) -> Capabilities:
            return Capabilities(logprobs=False)

    with pytest.raises(ConfigError, match="Blind cannot train"):
        run_given(one_action(1.0), grpo(steps=1), engine=Blind([]))


def test_a_reference_model_is_kept_when_a_part_reads_it() -> None:
    recipe = grpo(steps=3, groups_per_step=2, group_size=4, learning_rate=1e-2, kl=0.1)
    metrics, _ = run_say(0, recipe=recipe)
    assert metrics[0].records["kl"] < metrics[-1].records["kl"]


def test_a_cancelled_run_closes_its_strategy() -> None:
    class Slow(Given):
        async def collect(self, work: Sequence[WorkItem]) -> AsyncIterator[Group]:
            try:
                await asyncio.sleep(60)
                yield Group(id="never", episodes=())
            finally:
                self.closed.append("closed")

    strategy = Slow(one_action(1.0))
    recipe = grpo(learning_rate=1e-3)
    loop = Loop(
        recipe=recipe,
        tasks=SeededTasks(),
        strategy=strategy,
        engine=ScriptedEngine([]),
        updater=Updater(small_model(), recipe.optimiser, total_steps=1),
    )

    async def cancel() -> None:
        task = asyncio.create_task(loop.run())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(cancel())
    assert strategy.closed == ["closed"]


def test_shared_tokens_of_a_tree_are_counted_once() -> None:
    trunk = Segment(kind="action", ids=as_ids([3, 4]), columns=columns(2))
    prompt = Segment(kind="prompt", ids=as_ids([1]))

    def make(item: WorkItem, index: int) -> Episode:
        leaf = Segment(kind="action", ids=as_ids([index]), turn=1, columns=columns(1))
        branch = Context(segments=(prompt, trunk, leaf))
        leaf_episode = replace(episode(f"g/{index}", float(index), branch), group_id=item.group_id)
        return replace(leaf_episode, parent_id="g/0", num_shared_turns=1) if index else leaf_episode

    ((metrics,), _) = run_given(make, grpo(steps=1, groups_per_step=1, group_size=2))
    assert metrics.sampled_tokens == 4 and metrics.trained_tokens == 6
