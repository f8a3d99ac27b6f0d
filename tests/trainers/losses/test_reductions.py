"""Neutral settings are GRPO; near them nothing jumps; order, padding and flat groups change nothing."""

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.testing import assert_close

from agentrl.trainers.cispo import cispo
from agentrl.trainers.dapo import dapo
from agentrl.trainers.dr_grpo import dr_grpo
from agentrl.trainers.grpo import grpo
from agentrl.trainers.gspo import gspo
from agentrl.trainers.recipe import Recipe
from agentrl.trainers.reinforce_pp import reinforce_pp, reinforce_pp_baseline
from agentrl.trainers.rloo import rloo
from agentrl.trainers.sapo import sapo
from agentrl.trainers.standard.corrections import Kind, Level
from tests.trainers.losses.toy import Matrix, Toy, loss_and_gradient, random_toy, tokens_of

seeds = st.integers(0, 2**32 - 1)
ALL: dict[str, Recipe] = {
    "grpo": grpo(kl=0.1),
    "turns": grpo(turn_weight=1.0, turn_discount=0.5),
    "dapo": dapo(dual_clip=3.0),
    "dr_grpo": dr_grpo(max_length=7),
    "rloo": rloo(kl=0.1),
    "rloo by token": rloo(level="token"),
    "reinforce_pp": reinforce_pp(discount=0.9, kl=0.1),
    "reinforce_pp_baseline": reinforce_pp_baseline(kl=0.1),
    "gspo": gspo(clip_low=0.1, clip_high=0.1),
    "cispo": cispo(),
    "sapo": sapo(),
    "truncated": grpo(mismatch="truncate", mismatch_level="episode"),
    "masked": grpo(mismatch="mask"),
    "weighted kl": grpo(kl=0.1, kl_estimator="k3_weighted"),
}


def rows_of(toy: Toy, order: list[int]) -> Toy:
    """The same batch with its rows in another order."""
    return Toy(**{name: [values[i] for i in order] if values else [] for name, values in vars(toy).items()})


def with_new(toy: Toy, new: NDArray[np.float64]) -> Toy:
    return replace(toy, new=new.tolist())


def on_policy(toy: Toy) -> Toy:
    return replace(toy, new=toy.old, behaviour=toy.old)


def same_bits(one: Recipe, other: Recipe, toy: Toy) -> None:
    for a, b in zip(loss_and_gradient(one, toy), loss_and_gradient(other, toy), strict=True):
        assert torch.equal(a, b)


# ------------------------------------------------------------------ neutral settings


@given(seeds)
def test_to_the_last_bit(seed: int) -> None:
    toy = random_toy(seed)
    same_bits(dapo(), grpo(), toy)
    same_bits(grpo(dual_clip=math.inf), grpo(), toy)
    same_bits(
        dr_grpo(max_length=9, clip_high=0.28),
        grpo(normalise=False, aggregate="const_norm", max_length=9),
        toy,
    )
    for level in get_args(Level):
        for kind in get_args(Kind):
            same_bits(grpo(mismatch=kind, mismatch_level=level), grpo(), replace(toy, behaviour=toy.old))
        one = grpo(mismatch="truncate", mismatch_level=level, mismatch_low=1.0, mismatch_high=1.0)
        same_bits(one, grpo(), toy)


@given(seeds)
def test_episodes_of_one_token_have_one_ratio(seed: int) -> None:
    toy = random_toy(seed, empty=False)
    single = Toy(
        **{n: [row[:1] for row in v] if n in MATRICES else v for n, v in vars(toy).items()}
        | {"mask": [[1]] * len(toy.mask)}
    )
    token = grpo(clip_low=0.1, clip_high=0.1, aggregate="seq_mean_token_mean")
    close(gspo(clip_low=0.1, clip_high=0.1), token, single)
    close(replace(rloo(clip_low=0.1, clip_high=0.1), advantage=token.advantage), token, single)


MATRICES = ("mask", "new", "old", "reference", "behaviour", "turn")


def close(one: Recipe, other: Recipe, toy: Toy, *, value: bool = True) -> None:
    found, expected = loss_and_gradient(one, toy), loss_and_gradient(other, toy)
    assert_close(found[1], expected[1], rtol=1e-6, atol=1e-9)
    if value:
        assert_close(found[0], expected[0], rtol=1e-6, atol=1e-9)


@given(seeds)
def test_before_anything_moved_all_are_the_policy_gradient(seed: int) -> None:
    """At a ratio of 1 the surrogates differ in value, never in gradient."""
    toy = on_policy(random_toy(seed))
    close(cispo(), grpo(), toy, value=False)
    rows = grpo(aggregate="seq_mean_token_mean")
    close(gspo(), rows, toy)
    close(sapo(), rows, toy, value=False)
    sums = grpo(aggregate="seq_mean_token_sum")
    close(replace(rloo(), advantage=sums.advantage), sums, toy, value=False)
    close(grpo(kl=0.1, kl_estimator="k3_weighted"), grpo(kl=0.1, kl_estimator="k3+"), toy)


@given(seeds, st.integers(2, 6))
def test_leaving_one_out_stretches_the_distance_from_the_mean(seed: int, size: int) -> None:
    toy = random_toy(seed, empty=False)
    rewards = np.random.default_rng(seed).choice([0.0, 0.5, 1.0], size)
    one = rows_of(toy, [0] * size)
    group = replace(one, group=[0] * size, reward=rewards.tolist())
    loo = tokens_of(group, rloo()).advantage_N
    centred = tokens_of(group, dr_grpo()).advantage_N
    assert_close(loo, centred * size / (size - 1))


# ------------------------------------------------------------------ near the neutral point


@pytest.mark.parametrize("name", ["gspo", "sapo", "cispo", "rloo", "grpo", "truncated"])
@given(seed=seeds)
def test_nothing_jumps_near_the_old_policy(name: str, seed: int) -> None:
    toy = on_policy(random_toy(seed))
    moved = np.array(toy.old) + 1e-6 * np.random.default_rng(seed).normal(size=np.shape(toy.old))
    here, there = loss_and_gradient(ALL[name], toy), loss_and_gradient(ALL[name], with_new(toy, moved))
    for a, b in zip(here, there, strict=True):
        assert_close(a, b, rtol=0, atol=2e-4)


@given(seeds)
def test_small_settings_make_small_differences(seed: int) -> None:
    toy = random_toy(seed)
    for near in (grpo(turn_weight=1e-7), grpo(kl=1e-7), grpo(clip_low=0.2 + 1e-9, clip_high=0.28 + 1e-9)):
        for a, b in zip(loss_and_gradient(near, toy), loss_and_gradient(grpo(), toy), strict=True):
            assert_close(a, b, rtol=0, atol=1e-5)


# ------------------------------------------------------------------ order, padding, equal rewards


@pytest.mark.parametrize("name", ALL)
@given(seed=seeds, data=st.data())
def test_rows_may_stand_in_any_order(name: str, seed: int, data: st.DataObject) -> None:
    toy = random_toy(seed)
    order = data.draw(st.permutations(range(len(toy.reward))))
    turned = rows_of(toy, list(order))
    (loss, gradient_N), (other, turned_N) = (loss_and_gradient(ALL[name], t) for t in (toy, turned))
    assert_close(loss, other, rtol=1e-9, atol=1e-12)
    gradient_BT, turned_BT = (torch.zeros(np.shape(toy.mask), dtype=torch.float64) for _ in range(2))
    gradient_BT[toy.mask_BT], turned_BT[turned.mask_BT] = gradient_N, turned_N
    assert_close(gradient_BT[list(order)], turned_BT, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ALL)
@given(seed=seeds)
def test_padding_changes_nothing(name: str, seed: int) -> None:
    toy = random_toy(seed)
    fill = {"mask": 0, "turn": 9, "new": 800.0, "old": -800.0, "reference": 3.0, "behaviour": math.nan}
    wide: dict[str, Matrix] = {n: [[*row, v] for row in getattr(toy, n)] for n, v in fill.items()}
    for a, b in zip(
        loss_and_gradient(ALL[name], toy),
        loss_and_gradient(ALL[name], replace(toy, **wide)),  # type: ignore[arg-type]
        strict=True,
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", [n for n in ALL if "reinforce" not in n and n != "turns"])
@pytest.mark.parametrize("value", [0.7, 0.1, 1 / 3, 1e6])
def test_equal_rewards_teach_exactly_nothing(name: str, value: float) -> None:
    recipe = replace(ALL[name], regularisers=())
    if name == "rloo":
        recipe = rloo()
    toy = random_toy(5)
    loss, gradient_N = loss_and_gradient(recipe, replace(toy, reward=[value] * len(toy.reward)))
    assert not gradient_N.any() and (name in ("cispo", "sapo") or loss == 0)


@pytest.mark.parametrize("name", ALL)
def test_a_batch_without_a_trained_token_is_zero(name: str) -> None:
    toy = random_toy(3)
    loss, gradient_N = loss_and_gradient(
        ALL[name], replace(toy, mask=[[0] * len(toy.mask[0])] * len(toy.mask))
    )
    assert loss == 0 and len(gradient_N) == 0


@pytest.mark.parametrize("name", ALL)
@given(seed=seeds)
def test_extreme_ratios_stay_finite(name: str, seed: int) -> None:
    toy = random_toy(seed)
    sign = np.random.default_rng(seed).choice([-900.0, 900.0], np.shape(toy.old))
    far = replace(with_new(toy, np.array(toy.old) + sign), behaviour=(np.array(toy.old) - sign).tolist())
    loss, gradient_N = loss_and_gradient(ALL[name], far)
    assert loss.isfinite() and gradient_N.isfinite().all()


def test_a_weight_beyond_its_limit_is_that_at_the_limit() -> None:
    toy, recipe = random_toy(0, empty=False), ALL["weighted kl"]
    new = np.array(toy.new)
    at, beyond = (tokens_of(replace(toy, old=(new - far).tolist()), recipe) for far in (20.0, 100.0))
    penalty = recipe.regularisers[0]
    assert torch.equal(penalty(at)[0], penalty(beyond)[0])
    assert [int(t.records["kl_limited"]) for t in (at, beyond)] == [0, np.sum(toy.mask)]


@given(seeds, st.floats(0.1, 8.0), st.floats(-4.0, 4.0))
def test_what_whitening_does_not_see(seed: int, scale: float, offset: float) -> None:
    """Scale and offset of all rewards vanish where rewards are standardised; elsewhere the scale stays."""
    toy = random_toy(seed, empty=False)
    mapped = replace(toy, reward=[scale * r + offset for r in toy.reward], turn_reward=[])

    def both(recipe: Recipe) -> tuple[Tensor, Tensor]:
        return tokens_of(toy, recipe).advantage_N, tokens_of(mapped, recipe).advantage_N

    for recipe in (grpo(), reinforce_pp()):
        before, after = both(recipe)
        assert_close(after, before, rtol=0, atol=2e-3)
    for recipe in (dr_grpo(), rloo()):
        before, after = both(recipe)
        assert_close(after, scale * before, rtol=1e-7, atol=1e-9)
