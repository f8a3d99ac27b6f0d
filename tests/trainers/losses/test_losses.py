"""The numbers of the papers, worked by hand on one toy batch."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from agentrl.errors import ConfigError
from agentrl.trainers.losses import advantage, aggregate, kl
from agentrl.trainers.losses.surrogate import is_clipped, ppo_clip

# One group of four episodes of 2, 3, 1 and 2 trained tokens.
OLD = torch.tensor([-0.5, -1.0, -0.2, -2.0, -0.7, -1.5, -0.3, -0.9], dtype=torch.float64)
NEW = torch.tensor([-0.4, -0.9, -0.2, -2.5, -0.5, -1.1, -0.35, -0.9], dtype=torch.float64)
REFERENCE = torch.tensor([-0.6, -1.1, -0.3, -1.8, -0.9, -1.4, -0.3, -1.0], dtype=torch.float64)
EPISODE = torch.tensor([0, 0, 1, 1, 1, 2, 3, 3])
LENGTH = torch.tensor([2, 2, 3, 3, 3, 1, 2, 2])
REWARD = torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=torch.float64)
GROUP = torch.zeros(4, dtype=torch.int64)


def near(actual: Tensor, expected: list[float] | float) -> None:
    assert_close(actual.double(), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-6)


def losses(advantage_E: Tensor, *, low: float = 0.8, high: float = 1.2) -> Tensor:
    return ppo_clip(NEW - OLD, advantage_E[EPISODE], low=low, high=high)


# ------------------------------------------------------------------ advantages


def test_advantages_of_the_toy_group() -> None:
    near(advantage.grpo(REWARD, GROUP), [0.866024, -0.866024, -0.866024, 0.866024])
    near(advantage.dr_grpo(REWARD, GROUP), [0.5, -0.5, -0.5, 0.5])


def test_advantages_of_one_success_in_four() -> None:
    reward = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    near(advantage.grpo(reward, GROUP), [1.499997, -0.499999, -0.499999, -0.499999])
    near(advantage.grpo(reward, GROUP, epsilon=1e-4), [1.499700, -0.499900, -0.499900, -0.499900])


@pytest.mark.parametrize("value", [0.7, 0.1, 1 / 3, -5.3, 1e6])
def test_equal_rewards_teach_exactly_nothing(value: float) -> None:
    reward = torch.full((8,), value)
    for estimate in (advantage.grpo, advantage.dr_grpo):
        assert estimate(reward, torch.zeros(8, dtype=torch.int64)).tolist() == [0.0] * 8


def test_a_group_of_one_is_zero_or_raw() -> None:
    reward, group = torch.tensor([1.0, 1.0, 0.0]), torch.tensor([0, 1, 1])
    assert advantage.grpo(reward, group)[0] == 0
    near(advantage.grpo(reward, group, singleton="raw"), [1 / (1 + 1e-6), 0.707106, -0.707106])
    assert advantage.dr_grpo(reward, group, singleton="raw").tolist() == [1.0, 0.5, -0.5]


def test_an_unknown_treatment_of_singletons_is_named() -> None:
    with pytest.raises(ConfigError, match="singleton='none'"):
        advantage.grpo(REWARD, GROUP, singleton="none")  # type: ignore[arg-type]


def test_no_episodes_have_no_advantages() -> None:
    empty = torch.zeros(0)
    assert advantage.grpo(empty, torch.zeros(0, dtype=torch.int64)).shape == (0,)


rewards = st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.7, 1.0]), min_size=1, max_size=12)


@given(rewards, st.data())
def test_advantages_follow_a_permutation(values: list[float], data: st.DataObject) -> None:
    reward = torch.tensor(values)
    group = torch.tensor(data.draw(st.lists(st.integers(0, 3), min_size=len(values), max_size=len(values))))
    order = torch.tensor(data.draw(st.permutations(range(len(values)))))
    for estimate in (advantage.grpo, advantage.dr_grpo):
        assert_close(estimate(reward, group)[order], estimate(reward[order], group[order]))


@given(rewards)
def test_advantages_sum_to_zero_and_are_finite(values: list[float]) -> None:
    reward = torch.tensor(values)
    group = torch.zeros(len(values), dtype=torch.int64)
    for estimate in (advantage.grpo, advantage.dr_grpo):
        result = estimate(reward, group)
        assert result.isfinite().all()
        assert abs(float(result.sum())) < 1e-5


@given(rewards, st.floats(0.5, 4.0), st.floats(-3.0, 3.0))
def test_the_z_score_does_not_see_an_affine_map(values: list[float], scale: float, offset: float) -> None:
    reward = torch.tensor(values, dtype=torch.float64)
    group = torch.zeros(len(values), dtype=torch.int64)
    mapped = advantage.grpo(scale * reward + offset, group, epsilon=1e-12)
    assert_close(mapped, advantage.grpo(reward, group, epsilon=1e-12), rtol=1e-6, atol=1e-6)


# ------------------------------------------------------------------ surrogate


def test_token_losses_of_the_toy_batch() -> None:
    expected = [-0.957104, -0.957104, 0.866024, 0.692819, 1.057764, 1.291956, -0.823787, -0.866024]
    near(losses(advantage.grpo(REWARD, GROUP)), expected)


def test_a_higher_upper_bound_earns_more() -> None:
    log_ratio, one = torch.tensor([math.log(1.25)]), torch.ones(1)
    near(ppo_clip(log_ratio, one, low=0.8, high=1.2), [-1.2])
    near(ppo_clip(log_ratio, one, low=0.8, high=1.28), [-1.25])


def test_no_gradient_beyond_the_clip() -> None:
    log_ratio = torch.tensor([0.5, 1.0, 1.5, 0.5, 1.0, 1.5]).log().requires_grad_()
    sign = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0, -1.0])
    (gradient,) = torch.autograd.grad(ppo_clip(log_ratio, sign, low=0.8, high=1.2).sum(), log_ratio)
    assert_close(gradient, torch.tensor([-0.5, -1.0, 0.0, 0.0, 1.0, 1.5]))
    clipped = is_clipped(log_ratio, sign, low=0.8, high=1.2)
    assert clipped.tolist() == [False, False, True, True, False, False]


def test_bounds_may_differ_by_token() -> None:
    log_ratio, one = torch.full((2,), math.log(1.5)), torch.ones(2)
    near(ppo_clip(log_ratio, one, low=0.0, high=torch.tensor([1.1, 1.4])), [-1.1, -1.4])


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="need one shape"):
        ppo_clip(torch.zeros(3), torch.zeros(1), low=0.8, high=1.2)


def test_the_gradient_is_that_of_finite_differences() -> None:
    weights = advantage.grpo(REWARD, GROUP)[EPISODE]
    inside = (OLD + torch.tensor([0.1, -0.1, 0.3, -0.5, 0.15, 0.4, -0.3, 0.05])).requires_grad_()

    def value(new: Tensor) -> Tensor:
        loss = ppo_clip(new - OLD, weights, low=0.8, high=1.28) + 0.1 * kl.k3(new, REFERENCE)
        return aggregate.seq_mean_token_mean(loss, LENGTH, num_episodes=4)

    assert torch.autograd.gradcheck(value, (inside,))


# ------------------------------------------------------------------ averages


def test_averages_of_the_toy_batch() -> None:
    loss = losses(advantage.grpo(REWARD, GROUP))
    near(aggregate.token_mean(loss, num_tokens=8), 0.038068)
    near(aggregate.seq_mean_token_mean(loss, LENGTH, num_episodes=4), 0.090537)
    near(aggregate.seq_mean_token_sum(loss, num_episodes=4), 0.076136)
    near(aggregate.const_norm(loss, num_episodes=4, max_length=10), 0.007614)


def test_dr_grpo_of_the_toy_batch() -> None:
    loss = losses(advantage.dr_grpo(REWARD, GROUP))
    near(aggregate.const_norm(loss, num_episodes=4, max_length=10), 0.004396)


def test_nothing_averages_to_zero() -> None:
    none = torch.zeros(0, requires_grad=True)
    lengths = torch.zeros(0, dtype=torch.int64)
    for value in (
        aggregate.token_mean(none, num_tokens=0),
        aggregate.seq_mean_token_mean(none, lengths, num_episodes=0),
        aggregate.seq_mean_token_sum(none, num_episodes=0),
        aggregate.const_norm(none, num_episodes=0, max_length=5),
    ):
        assert value == 0 and value.requires_grad


# ------------------------------------------------------------------ divergence


def test_divergences_of_the_toy_batch() -> None:
    for estimator, expected in ((kl.k1, 0.068750), (kl.k2, 0.052656), (kl.k3, 0.059162)):
        near(estimator(NEW, REFERENCE).mean(), expected)


@given(st.floats(-3, 3))
def test_k2_and_k3_are_never_negative(distance: float) -> None:
    new, reference = torch.tensor([0.0], dtype=torch.float64), torch.tensor([distance], dtype=torch.float64)
    assert kl.k2(new, reference) >= 0 and kl.k3(new, reference) >= 0
    assert kl.k1(new, reference) == -distance
