"""What a step reports about itself, by hand: whom it paid, what it moved, and which way."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from agentrl.episode import Context, ScoredGroup, Segment
from agentrl.trainers.batch import TrainBatch, make_batch
from agentrl.trainers.grpo import grpo
from agentrl.trainers.optimiser import OptimiserSettings
from agentrl.trainers.parts import StepContext
from agentrl.trainers.signal import Move, Signal, correlation, spread_out
from agentrl.trainers.standard import GroupAdvantage
from agentrl.trainers.updater import Updater
from tests.trainers.looping import run_say
from tests.trainers.making import context, scored, small_model
from tests.trainers.updating import SETTINGS, step, two_groups


def group(*rewards: float, contexts: list[Context] | None = None) -> ScoredGroup:
    """Attempts of three sampled tokens each."""
    made = contexts or [context(0, [3])] * len(rewards)
    members = [scored(f"g/{i}", r, c) for i, (r, c) in enumerate(zip(rewards, made, strict=True))]
    return ScoredGroup(id="g", episodes=tuple(members))


def advantage(batch: TrainBatch) -> Tensor:
    return GroupAdvantage()(batch, StepContext())


def test_a_sound_step_pays_every_token_and_no_other() -> None:
    batch = make_batch([group(1, 0, 0, 1)])
    signal = Signal.of(batch, advantage(batch))
    assert (signal.foreign_share, signal.masked_share) == (0, 0)
    assert signal.direction == pytest.approx(1)
    assert Signal.of(batch, -advantage(batch)).direction == pytest.approx(-1)


def test_tokens_that_nobody_sampled_are_foreign() -> None:
    """The observation of 2 tokens (seed 1) counts as the agent's own: 2 of 5 trained tokens are foreign."""
    played = context(1, [3])
    segments = [Segment(kind="action", ids=s.ids) if s.kind == "observation" else s for s in played.segments]
    batch = make_batch([group(1, 0, contexts=[Context(segments=tuple(segments))] * 2)])
    signal = Signal.of(batch, advantage(batch))
    assert signal.foreign_share == pytest.approx(2 / 5) and signal.masked_share == 0


def test_demonstrations_are_not_foreign() -> None:
    made = group(1, 0)
    shown = replace(made.episodes[0], episode=replace(made.episodes[0].episode, origin="expert"))
    batch = make_batch([replace(made, episodes=(shown, made.episodes[1]))])
    batch = batch.with_column("behaviour", torch.full_like(batch.columns["behaviour"], torch.nan))
    assert Signal.of(batch, advantage(batch)).foreign_share == 1, "of the policy's own three tokens"
    both = tuple(replace(e, episode=replace(e.episode, origin="expert")) for e in made.episodes)
    batch = make_batch([replace(made, episodes=both)])
    batch = batch.with_column("behaviour", torch.full_like(batch.columns["behaviour"], torch.nan))
    assert Signal.of(batch, advantage(batch)).foreign_share == 0


def test_tokens_without_advantage_or_gradient_are_masked() -> None:
    batch = make_batch([group(1, 0)])
    half = advantage(batch) * torch.tensor([1, 0, 0, 1, 0, 0])
    assert Signal.of(batch, half).masked_share == pytest.approx(4 / 6)
    assert Signal.of(batch, half, uses_advantage=False).masked_share == 0
    masked = make_batch([group(1, 0)], masked=frozenset({"g/0"}))
    assert Signal.of(masked, advantage(masked)).masked_share == pytest.approx(1 / 2)


def test_where_no_group_differs_nothing_is_said() -> None:
    batch = make_batch([group(1, 1)])
    signal = Signal.of(batch, advantage(batch))
    assert signal.direction is None and signal.masked_share == 0
    empty = make_batch([])
    assert Signal.of(empty, torch.zeros(0)).direction is None


def test_a_move_is_measured_in_nats_and_against_rewards() -> None:
    """By hand: changes of 0.1, 0.2, 0.3 in the good attempt, -0.3 at each token of the bad one."""
    batch = make_batch([group(1, 0)])
    change_N = torch.tensor([0.1, 0.2, 0.3, -0.3, -0.3, -0.3])
    move = Move.of(batch, [0, 1], change_N)
    assert move.size == pytest.approx(0.25) and move.direction == pytest.approx(1)
    assert Move.of(batch, [1, 0], torch.tensor([0.1, 0.2, 0.3, -0.3, -0.3, -0.3])).direction == pytest.approx(
        -1
    )


@pytest.mark.parametrize(("rate", "sign"), [(1e-3, 1.0), (1e-3, -1.0), (1e-5, 1.0)])
def test_an_update_moves_towards_what_was_paid(rate: float, sign: float) -> None:
    recipe = grpo(minibatches=1)
    turned = replace(recipe, advantage=lambda batch, context: sign * recipe.advantage(batch, context))
    moved = step(
        Updater(small_model(), OptimiserSettings(learning_rate=rate), total_steps=1), two_groups(), turned
    )
    assert moved.moved is not None and moved.moved_right is not None
    assert moved.moved_right * sign > 0.5
    assert 1e-1 * rate < moved.moved < 1e3 * rate


def test_a_step_without_rows_of_its_own_has_nothing_to_say() -> None:
    stats = step(Updater(small_model(), SETTINGS, total_steps=1), [], grpo())
    assert stats.skipped and stats.moved is None


def test_a_run_records_them() -> None:
    steps, _ = run_say(0, steps=4)
    assert all(s.foreign_share == s.masked_share == 0 for s in steps if s.masked_share is not None)
    assert all(s.direction is None or s.direction > 0.9 for s in steps)
    assert all(s.moved is not None and s.moved > 1e-3 for s in steps if not s.skipped)


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=2, max_size=9))
def test_correlations_are_between_minus_one_and_one(pairs: list[tuple[float, float]]) -> None:
    first, second = (np.array(column) for column in zip(*pairs, strict=True))
    value = correlation(first, second)
    assert value is None or -1 - 1e-9 <= value <= 1 + 1e-9
    assert correlation(first, np.zeros_like(first)) is None


@given(st.lists(st.integers(), max_size=60, unique=True), st.integers(1, 20))
def test_what_is_looked_at_is_spread_out(rows: list[int], count: int) -> None:
    chosen = spread_out(rows, count)
    assert len(chosen) == min(len(rows), count) == len(set(chosen)) and set(chosen) <= set(rows)
