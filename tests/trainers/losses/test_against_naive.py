"""Every algorithm is, in values and gradients, what a naive float64 loop over rows and tokens says."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from agentrl.trainers.cispo import cispo
from agentrl.trainers.dapo import dapo
from agentrl.trainers.dr_grpo import dr_grpo
from agentrl.trainers.grpo import grpo
from agentrl.trainers.gspo import gspo
from agentrl.trainers.parts import StepContext
from agentrl.trainers.recipe import Recipe
from agentrl.trainers.reinforce_pp import reinforce_pp, reinforce_pp_baseline
from agentrl.trainers.rloo import rloo
from agentrl.trainers.sapo import sapo
from agentrl.trainers.standard.corrections import Kind, Level
from tests.trainers.losses import naive
from tests.trainers.losses.naive import ppo, token_losses
from tests.trainers.losses.toy import Matrix, Toy, batch_of, loss_and_gradient, random_toy

Naive = Callable[[Toy, Tensor], Tensor]


def clipped(advantage: Callable[[Toy], Matrix], low: float, high: float, dual: float | None = None) -> Naive:
    def loss(toy: Toy, new_BT: Tensor) -> Tensor:
        terms = token_losses(toy, new_BT, advantage(toy), lambda r, a, _: ppo(r, a, low, high, dual))
        return naive.token_mean(toy, terms)

    return loss


def grpo_of_the_paper(toy: Toy, new_BT: Tensor) -> Tensor:
    terms = token_losses(toy, new_BT, naive.z_scores(toy), lambda r, a, _: ppo(r, a, 0.2, 0.2))
    return naive.row_means(toy, naive.plus(terms, naive.kl_losses(toy, new_BT, "k3"), 0.04))


def naive_dr_grpo(toy: Toy, new_BT: Tensor) -> Tensor:
    terms = token_losses(toy, new_BT, naive.centred(toy), lambda r, a, _: ppo(r, a, 0.2, 0.2))
    return naive.constant(toy, terms, 9)


def naive_rloo(toy: Toy, new_BT: Tensor) -> Tensor:
    return naive.row_means(
        toy, naive.row_losses(toy, new_BT, naive.leave_one_out(toy), mean=False, low=0.2, high=0.2)
    )


def naive_gspo(toy: Toy, new_BT: Tensor) -> Tensor:
    return naive.row_means(
        toy, naive.row_losses(toy, new_BT, naive.z_scores(toy), mean=True, low=0.1, high=0.15)
    )


def naive_luspo(toy: Toy, new_BT: Tensor) -> Tensor:
    terms = naive.row_losses(toy, new_BT, naive.z_scores(toy), mean=True, low=0.1, high=0.15)
    return naive.row_means(toy, terms, weigh=True, count_empty=True)


def naive_cispo(toy: Toy, new_BT: Tensor) -> Tensor:
    def one(ratio: Tensor, advantage: float, logp: Tensor) -> Tensor:
        return -naive.clip(ratio, 0.0, 1.5).detach() * advantage * logp

    return naive.token_mean(toy, token_losses(toy, new_BT, naive.z_scores(toy), one))


def naive_sapo(toy: Toy, new_BT: Tensor) -> Tensor:
    terms = token_losses(toy, new_BT, naive.z_scores(toy), lambda r, a, _: naive.sigmoid_gate(r, a))
    return naive.row_means(toy, terms)


def naive_baseline(toy: Toy, new_BT: Tensor) -> Tensor:
    terms = token_losses(toy, new_BT, naive.reinforce_pp_baseline(toy), lambda r, a, _: ppo(r, a, 0.2, 0.2))
    return naive.token_mean(toy, naive.plus(terms, naive.kl_losses(toy, new_BT, "k2"), 0.1))


CASES: dict[str, tuple[Recipe, Naive]] = {
    "grpo": (grpo(), clipped(naive.z_scores, 0.2, 0.28)),
    "grpo of the paper": (
        grpo(clip_high=0.2, aggregate="seq_mean_token_mean", kl=0.04),
        grpo_of_the_paper,
    ),
    "grpo by turns": (
        grpo(turn_weight=0.7, turn_discount=0.5),
        clipped(lambda toy: naive.with_turns(toy, weight=0.7, discount=0.5), 0.2, 0.28),
    ),
    "dapo": (dapo(dual_clip=1.5), clipped(naive.z_scores, 0.2, 0.28, 1.5)),
    "dr_grpo": (dr_grpo(max_length=9), naive_dr_grpo),
    "rloo": (rloo(), naive_rloo),
    "rloo by token": (rloo(level="token"), clipped(naive.leave_one_out, 0.2, 0.2)),
    "reinforce_pp": (reinforce_pp(), clipped(naive.reinforce_pp, 0.2, 0.2)),
    "reinforce_pp discounted": (
        reinforce_pp(discount=0.9, kl=0.3),
        clipped(lambda toy: naive.reinforce_pp(toy, discount=0.9, kl=0.3), 0.2, 0.2),
    ),
    "reinforce_pp by turns": (
        reinforce_pp(placement="turn", discount=0.5),
        clipped(lambda toy: naive.reinforce_pp(toy, discount=0.5, turns=True), 0.2, 0.2),
    ),
    "reinforce_pp_baseline": (reinforce_pp_baseline(kl=0.1), naive_baseline),
    "gspo": (gspo(clip_low=0.1, clip_high=0.15), naive_gspo),
    "luspo": (gspo(clip_low=0.1, clip_high=0.15, length_weighted=True, count_empty_rows=True), naive_luspo),
    "cispo": (cispo(clip_high=0.5), naive_cispo),
    "sapo": (sapo(), naive_sapo),
}


def check(recipe: Recipe, expected: Naive, toy: Toy) -> None:
    new_BT = torch.tensor(toy.new, dtype=torch.float64, requires_grad=True)
    value = expected(toy, new_BT)
    gradient_BT = torch.zeros_like(new_BT)
    if value.requires_grad:
        (gradient_BT,) = torch.autograd.grad(value, new_BT)
    loss, gradient_N = loss_and_gradient(recipe, toy)
    assert_close(loss, value.detach(), rtol=1e-9, atol=1e-10)
    assert_close(gradient_N, gradient_BT[toy.mask_BT], rtol=1e-9, atol=1e-10)
    assert bool((gradient_BT[~toy.mask_BT] == 0).all())


@pytest.mark.parametrize("name", CASES)
@given(seed=st.integers(0, 2**32 - 1))
def test_loss_and_gradient_are_those_of_the_naive_loop(name: str, seed: int) -> None:
    check(*CASES[name], random_toy(seed))


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3", "k1+", "k3+", "k3_weighted"])
@given(seed=st.integers(0, 2**32 - 1))
def test_divergences_in_the_loss(estimator: str, seed: int) -> None:
    def expected(toy: Toy, new_BT: Tensor) -> Tensor:
        terms = token_losses(toy, new_BT, naive.z_scores(toy), lambda r, a, _: ppo(r, a, 0.2, 0.28))
        return naive.token_mean(toy, naive.plus(terms, naive.kl_losses(toy, new_BT, estimator), 0.3))

    check(grpo(kl=0.3, kl_estimator=estimator), expected, random_toy(seed))  # type: ignore[arg-type]


@pytest.mark.parametrize("level", ["token", "episode"])
@pytest.mark.parametrize(("kind", "low", "high"), [("truncate", 0.0, 1.3), ("mask", 0.8, 1.2)])
@given(seed=st.integers(0, 2**32 - 1))
def test_a_correction_weighs_the_policy_term_alone(
    kind: Kind, low: float, high: float, level: Level, seed: int
) -> None:
    """Divergence and denominators are those without it."""

    def expected(toy: Toy, new_BT: Tensor) -> Tensor:
        terms = token_losses(toy, new_BT, naive.z_scores(toy), lambda r, a, _: ppo(r, a, 0.2, 0.28))
        weighed = naive.times(terms, naive.weights(toy, kind=kind, level=level, low=low, high=high))
        return naive.row_means(toy, naive.plus(weighed, naive.kl_losses(toy, new_BT, "k3"), 0.1))

    recipe = grpo(
        aggregate="seq_mean_token_mean",
        kl=0.1,
        mismatch=kind,
        mismatch_level=level,
        mismatch_low=low,
        mismatch_high=high,
    )
    check(recipe, expected, random_toy(seed))


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
@given(seed=st.integers(0, 2**32 - 1))
def test_divergences_in_the_reward(estimator: str, seed: int) -> None:
    """An episode's reward loses the sum over its tokens before it is compared."""
    toy = random_toy(seed)
    recipe = rloo(kl=0.3, kl_in="reward", kl_estimator=estimator)  # type: ignore[arg-type]
    lost = [
        0.3 * float(sum(row, torch.tensor(0.0)))
        for row in naive.kl_losses(toy, torch.tensor(toy.old, dtype=torch.float64), estimator)
    ]
    taxed = Toy(**{**vars(toy), "reward": [r - x for r, x in zip(toy.reward, lost, strict=True)]})
    context = StepContext()
    actual = recipe.advantage(batch_of(toy), context)
    assert_close(actual, toy.flat(naive.leave_one_out(taxed)), rtol=1e-7, atol=1e-9)
    assert context.records["kl"] * batch_of(toy).num_tokens == pytest.approx(sum(lost) / 0.3)
