"""The numbers of a toy batch, worked out by hand and with the libraries of the field."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from agentrl.trainers.cispo import cispo
from agentrl.trainers.comm import LocalComm
from agentrl.trainers.dr_grpo import dr_grpo
from agentrl.trainers.grpo import grpo
from agentrl.trainers.gspo import gspo
from agentrl.trainers.losses import advantage, kl, mismatch
from agentrl.trainers.losses.overlong import overlong_penalty
from agentrl.trainers.losses.returns import at_last_token, returns_to_go, whiten
from agentrl.trainers.losses.surrogate import ppo_clip
from agentrl.trainers.parts import StepContext
from agentrl.trainers.policy import policy_loss
from agentrl.trainers.recipe import Recipe
from agentrl.trainers.reinforce_pp import reinforce_pp, reinforce_pp_baseline
from agentrl.trainers.rloo import rloo
from agentrl.trainers.sapo import sapo
from tests.trainers.losses.toy import T0, T0_ONE, batch_of, loss_and_gradient, tokens_of, toy_of

GROUP = torch.zeros(4, dtype=torch.int64)


def near(actual: Tensor | float, expected: list[float] | float) -> None:
    value = torch.as_tensor(actual).double()
    assert_close(value, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-6)


def token_losses(recipe: Recipe) -> Tensor:
    tokens = tokens_of(T0, recipe)
    return recipe.surrogate(recipe.ratio(tokens), recipe.bounds(tokens), tokens).detach()


# ------------------------------------------------------------------ advantages


def test_leave_one_out() -> None:
    near(advantage.rloo(torch.tensor(T0.reward), GROUP), [0.666667, -0.666667, -0.666667, 0.666667])
    near(advantage.rloo(torch.tensor(T0_ONE.reward), GROUP), [1, -0.333333, -0.333333, -0.333333])


def test_whitened_over_the_batch() -> None:
    high, low = 0.935414, -0.935414
    near(reinforce_pp().advantage(batch_of(T0), StepContext()), [high, high, low, low, low, low, high, high])
    near(reinforce_pp().advantage(batch_of(T0_ONE), StepContext()), [1.620185, 1.620185, *[-0.540062] * 6])


def test_a_baseline_of_the_group_comes_before_whitening() -> None:
    rows = {name: [[-1.0]] * 8 for name in ("old", "new", "reference")}
    two = toy_of(rows, [1, 1, 1, 0, 0, 0, 0, 1], group=[0] * 4 + [1] * 4)
    high, low = 0.935414, -0.935414
    near(reinforce_pp().advantage(batch_of(two), StepContext()), [high, high, high, low, low, low, low, high])
    expected = [0.540062] * 3 + [-1.620185] + [-0.540062] * 3 + [1.620185]
    near(reinforce_pp_baseline().advantage(batch_of(two), StepContext()), expected)


def test_a_reward_reaches_the_turns_before_it() -> None:
    """With a tool's tokens in between: mask 1 0 1, and the reward at the last."""
    episode = torch.tensor([0, 0, 1])
    reward = at_last_token(torch.tensor([1.0, 5.0]), episode)
    near(returns_to_go(reward, episode), [1.0, 1.0, 5.0])
    near(returns_to_go(reward, episode, discount=0.5), [0.5, 1.0, 5.0])


@pytest.mark.parametrize("values", [[], [3.0], [0.1] * 5, [1 / 3] * 7, [-1e6] * 4])
def test_nothing_to_whiten_is_exactly_zero(values: list[float]) -> None:
    assert whiten(torch.tensor(values), comm=LocalComm()).tolist() == [0.0] * len(values)
    wide = whiten(torch.tensor(values, dtype=torch.float64), comm=LocalComm())
    assert wide.tolist() == [0.0] * len(values)


def test_alone_in_a_group() -> None:
    reward, group = torch.tensor([2.0, 1.0, 0.0]), torch.tensor([0, 1, 1])
    assert advantage.rloo(reward, group).tolist() == [0.0, 1.0, -1.0]
    assert advantage.rloo(reward, group, singleton="raw").tolist() == [2.0, 1.0, -1.0]


# ------------------------------------------------------------------ surrogates


def test_grpo() -> None:
    narrow = grpo(clip_high=0.2)
    expected = [-0.957104, -0.957104, 0.866024, 0.692819, 1.057764, 1.291956, -0.823787, -0.866024]
    near(token_losses(narrow), expected)
    for aggregate, value in (
        ("token_mean", 0.038068),
        ("seq_mean_token_mean", 0.090537),
        ("seq_mean_token_sum", 0.076136),
    ):
        near(loss_and_gradient(grpo(clip_high=0.2, aggregate=aggregate), T0)[0], value)  # type: ignore[arg-type]
    near(loss_and_gradient(grpo(clip_high=0.2, aggregate="const_norm", max_length=10), T0)[0], 0.007614)


def test_dr_grpo() -> None:
    near(loss_and_gradient(dr_grpo(max_length=10), T0)[0], 0.004396)


def test_dual_clip() -> None:
    log_ratio, bad = torch.tensor([math.log(4.0)]), -torch.ones(1)
    near(ppo_clip(log_ratio, bad, low=0.8, high=1.2), [4.0])
    near(ppo_clip(log_ratio, bad, low=0.8, high=1.2, dual_clip=3.0), [3.0])


def test_dual_clip_stops_the_gradient_of_bad_tokens_alone() -> None:
    log_ratio = torch.tensor([4.0, 2.0, 4.0]).log().requires_grad_()
    sign = torch.tensor([-1.0, -1.0, 1.0])
    loss = ppo_clip(log_ratio, sign, low=0.8, high=1.2, dual_clip=3.0)
    near(loss.detach(), [3.0, 2.0, -1.2])
    near(torch.autograd.grad(loss.sum(), log_ratio)[0], [0.0, 2.0, 0.0])


def test_clip_higher() -> None:
    log_ratio, good = torch.tensor([math.log(1.25)]), torch.ones(1)
    near(ppo_clip(log_ratio, good, low=0.8, high=1.2), [-1.2])
    near(ppo_clip(log_ratio, good, low=0.8, high=1.28), [-1.25])


def test_gspo() -> None:
    tokens = tokens_of(T0, gspo())
    ratio = gspo().ratio(tokens).exp().detach()
    near(ratio[[0, 2, 5, 6]], [1.105171, 0.904837, 1.491825, 0.975310])
    assert torch.equal(ratio[[0, 2, 2, 6]], ratio[[1, 3, 4, 7]])
    near(token_losses(gspo())[[0, 2, 5, 6]], [-0.866370, 0.865764, 1.291956, -0.844642])
    near(loss_and_gradient(gspo(), T0)[0], 0.111677)
    near(loss_and_gradient(gspo(length_weighted=True), T0)[0], 0.116806)


def test_cispo() -> None:
    both = cispo(clip_low=0.2, clip_high=0.28)
    expected = [0.382842, 0.861394, -0.173205, -1.732048, -0.528882, -1.219362, 0.288326, 0.779422]
    near(token_losses(both), expected)
    near(loss_and_gradient(both, T0)[0], -0.167689)
    near(loss_and_gradient(cispo(), T0)[0], -0.140554)


def test_rloo() -> None:
    near(loss_and_gradient(rloo(), T0)[0], 0.023433)


def test_sapo() -> None:
    near(loss_and_gradient(sapo(), T0)[0], 0.033376)
    tau, log_ratio = 1.05, torch.zeros(1, requires_grad=True)
    from agentrl.trainers.losses.surrogate import sapo as gate

    loss = gate(log_ratio, torch.tensor([-3.0]), temperature_positive=1.0, temperature_negative=tau)
    near(loss.detach(), [6 / tau])
    near(torch.autograd.grad(loss.sum(), log_ratio)[0], [3.0])


# ------------------------------------------------------------------ divergences


def test_divergences() -> None:
    new, reference = T0.flat(T0.new), T0.flat(T0.reference)
    for name, value in (("k1", 0.068750), ("k2", 0.052656), ("k3", 0.059162)):
        near(getattr(kl, name)(new, reference).mean(), value)
        recipe = grpo(kl=1.0, kl_estimator=name)  # type: ignore[arg-type]
        tokens = tokens_of(T0, recipe)
        policy_loss(recipe, tokens)
        total, count = tokens.means["kl"].tolist()
        near(total / count, value)


def test_a_gradient_borrowed_from_k2() -> None:
    new, reference = torch.tensor([-1.0], requires_grad=True), torch.tensor([-0.4])
    mixed = kl.with_gradient_of_k2(kl.k3(new, reference), new, reference)
    near(mixed.detach(), [math.exp(0.6) - 0.6 - 1])
    near(torch.autograd.grad(mixed.sum(), new)[0], [-0.6])


def test_a_weighted_divergence_has_the_gradient_of_k2_at_ratio_one() -> None:
    new, reference = torch.tensor([-1.0], requires_grad=True), torch.tensor([-0.4])
    mixed = kl.weighted(kl.k3(new, reference), new, new.detach())
    near(mixed.detach(), [math.exp(0.6) - 0.6 - 1])
    near(torch.autograd.grad(mixed.sum(), new)[0], [-0.6])


# ------------------------------------------------------------------ length, mismatch


def test_overlong() -> None:
    lengths = [12, 16, 18, 20, 30]
    assert [overlong_penalty(n, max_length=20, cache=4) for n in lengths] == [0, 0, -0.5, -1, -1]


def test_mismatch_weights() -> None:
    old, behaviour = torch.tensor([0.5, -0.5, 0.0, 9.0]).log1p(), torch.zeros(4)
    behaviour[2] = torch.nan
    near(mismatch.token_weights(old, behaviour), [1.5, 0.5, 1.0, 10.0])
    episode = torch.tensor([0, 0, 1, 2])
    whole = mismatch.episode_weights(old, behaviour, episode, num_episodes=3)
    near(whole, [0.75, 0.75, 1.0, 10.0])
    near(mismatch.truncate(whole, low=0.8, high=2.0), [0.8, 0.8, 1.0, 2.0])
    near(mismatch.mask(whole, low=0.8, high=2.0), [0.0, 0.0, 1.0, 0.0])
    assert mismatch.token_weights(torch.full((1,), 900.0), torch.zeros(1)).isfinite().all()
