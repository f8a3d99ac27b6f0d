"""Settings of the family: used, or refused in one line; and its parts by hand."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from agentrl.environment import Observation
from agentrl.episode import ScoredGroup, Turn
from agentrl.errors import ConfigError
from agentrl.message import Action
from agentrl.trainers.batch import TrainBatch, make_batch
from agentrl.trainers.comm import Comm
from agentrl.trainers.configure import with_settings
from agentrl.trainers.dapo import dapo
from agentrl.trainers.dr_grpo import dr_grpo
from agentrl.trainers.grpo import grpo
from agentrl.trainers.losses.returns import whiten
from agentrl.trainers.parts import StepContext
from agentrl.trainers.recipe import Recipe
from agentrl.trainers.reinforce_pp import reinforce_pp, reinforce_pp_baseline
from agentrl.trainers.rloo import rloo
from agentrl.trainers.sapo import sapo
from agentrl.trainers.standard import (
    EpisodeMean,
    KlPenalty,
    KlReward,
    LeaveOneOut,
    OverlongPenalty,
    TurnAdvantage,
    Whitened,
)
from tests.trainers.making import context, scored

REFUSED: list[tuple[Callable[..., Recipe], dict[str, Any], str]] = [
    (grpo, {"kl_in": "reward"}, "kl_in='reward': without use here; it needs kl above 0"),
    (grpo, {"kl": 0.1, "kl_in": "reward", "kl_estimator": "k3+"}, "kl_estimator='k3\\+' in the reward"),
    (grpo, {"kl": 0.1, "kl_in": "both"}, "kl_in='both': need one of 'loss', 'reward' or none"),
    (grpo, {"kl": float("nan")}, "kl=nan: need 0 or more"),
    (grpo, {"kl": float("inf")}, "kl=inf: need 0 or more, and finite"),
    (rloo, {"kl": 0.1, "truncation": "mask"}, "truncation='mask' with the divergence in the reward"),
    (grpo, {"kl": 0.1, "kl_in": "reward", "truncation": "mask"}, "set kl_in='loss', or truncation="),
    (grpo, {"kl": 0.1, "kl_in": "reward", "truncation": "mask", "turn_weight": 1}, "truncation='mask' with"),
    (reinforce_pp_baseline, {"kl": 0.1, "kl_in": "reward", "truncation": "mask"}, "truncation='mask' with"),
    (grpo, {"mismatch_high": 3}, "mismatch_high=3.0: without use here; it needs mismatch='truncate'"),
    (grpo, {"mismatch_level": "token"}, "mismatch_level=token: without use here"),
    (grpo, {"mismatch": "mask", "mismatch_low": 1.5}, "mismatch_low=1.5, mismatch_high=5.0: need 0 <= low"),
    (grpo, {"mismatch": "clip"}, "mismatch='clip': need one of 'truncate', 'mask' or none"),
    (grpo, {"dual_clip": 1.2}, "dual_clip=1.2: need more than 1 \\+ clip_high, which is 1.28"),
    (grpo, {"dual_clip": 0.5}, "dual_clip=0.5: need more than 1"),
    (grpo, {"turn_discount": 0.5}, "turn_discount=0.5: without use here; it needs turn_weight above 0"),
    (grpo, {"turn_weight": -1}, "turn_weight=-1.0: need 0 or more"),
    (grpo, {"turn_weight": 1, "turn_discount": 2}, "turn_discount=2.0: need a value in"),
    (
        grpo,
        {"truncation": "penalise", "truncation_penalty": 1e200},
        "truncation_penalty=1e\\+200: need at most",
    ),
    (grpo, {"sapo": 1}, "no setting 'sapo'"),
    (dapo, {"overlong_length": 10}, "overlong_length=10 with overlong_cache=None: they go together"),
    (dapo, {"overlong_length": 10, "overlong_cache": 11}, "overlong_cache=11: need 1 to overlong_length=10"),
    (dapo, {"max_generation": 3}, "no setting 'max_generation'; did you mean 'max_generations'"),
    (dapo, {"singleton": "raw"}, "singleton='raw': without use here; it needs groups of one"),
    (dapo, {"group_size": 1}, "group_size=1: dapo compares"),
    (dr_grpo, {"max_length": 0}, "max_length=0: need 1 or more"),
    (rloo, {"level": "token", "count_empty_rows": True}, "count_empty_rows=True: without use here"),
    (rloo, {"group_size": 1}, "group_size=1: rloo compares"),
    (reinforce_pp, {"discount": 1.1}, "discount=1.1: need a value in"),
    (reinforce_pp, {"singleton": "raw"}, "no setting 'singleton'"),
    (grpo, {"turn_weight": float("inf")}, "turn_weight=inf: need 0 or more, and finite"),
    (sapo, {"temperature_negative": 0}, "temperature_negative=0.0: need a finite number above 0"),
    (sapo, {"temperature_positive": float("inf")}, "temperature_positive=inf: need a finite number"),
    (sapo, {"clip_high": 0.3}, "no setting 'clip_high'"),
]


@pytest.mark.parametrize(("make", "settings", "message"), REFUSED)
def test_wrong_settings_are_refused_in_one_line(
    make: Callable[..., Recipe], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        with_settings(make, settings)
    assert "\n" not in str(caught.value)


def test_python_refuses_unknown_keywords_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no setting 'stesp'; did you mean 'steps'"):
        grpo(stesp=3)  # type: ignore[call-arg]


def test_where_the_divergence_goes_by_custom() -> None:
    assert grpo(kl=0.1).regularisers == (KlPenalty(weight=0.1, estimator="k3"),)
    inside = rloo(kl=0.1)
    assert inside.regularisers == () and inside.advantage == LeaveOneOut(
        token_rewards=(KlReward(weight=0.1),)
    )
    assert rloo(kl=0.1, kl_in="loss").regularisers == (KlPenalty(weight=0.1, estimator="k3"),)
    moved = grpo(kl=0.1, kl_in="reward", turn_weight=1.0).advantage
    assert isinstance(moved, TurnAdvantage) and moved.reads == {"old", "reference"}


def test_a_divergence_far_away_stays_finite() -> None:
    far = torch.tensor([900.0, -900.0, 0.1], dtype=torch.float64)
    batch = replace(batch_of([[0.0] * 3], [1.0]), columns={"old": far * 0, "reference": far})
    place = StepContext()
    for estimator in ("k1", "k2", "k3"):
        reward_N = KlReward(weight=1.0, estimator=estimator)(batch, place)
        assert reward_N.isfinite().all()
    assert place.records["kl_limited"] == 3 * 2
    assert_close(KlReward(weight=2.0)(batch, place), torch.tensor([40.0, -40.0, 0.2], dtype=torch.float64))


def test_without_groups_a_masked_attempt_is_compared_with_nobody() -> None:
    assert reinforce_pp(kl=0.1, kl_in="reward", truncation="mask").truncation == "mask"
    assert rloo(kl=0.1, kl_in="loss", truncation="mask").truncation == "mask"


def test_an_average_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="within='mean': need one of token_mean, token_sum, const"):
        EpisodeMean(within="mean")  # type: ignore[arg-type]


# ------------------------------------------------------------------ turns


def batch_of(turns: list[list[float]], rewards: list[float], *, tokens: int = 1) -> TrainBatch:
    """One group; each episode has `tokens` trained tokens in each of its turns, which earn what is given."""
    members = []
    for index, (earned, reward) in enumerate(zip(turns, rewards, strict=True)):
        made = scored(f"a/{index}", reward, context(index, [tokens] * len(earned)))
        played = tuple(
            Turn(index=i, action=Action(text=""), observation=Observation(), reward=r)
            for i, r in enumerate(earned)
        )
        members.append(replace(made, episode=replace(made.episode, turns=played)))
    return make_batch([ScoredGroup(id="a", episodes=tuple(members))])


def test_turns_are_compared_with_the_same_turns_of_the_group() -> None:
    batch = batch_of([[1.0, 0.0], [0.0, 0.0], [0.5]], [1.0, 0.0, 0.5], tokens=2)
    alone = TurnAdvantage(weight=1.0, normalise=False, outcome=lambda batch, _: torch.zeros(10).double())
    first, second = [0.5, -0.5, 0.0], [0.0, 0.0]
    expected = [first[0]] * 2 + [second[0]] * 2 + [first[1]] * 2 + [second[1]] * 2 + [first[2]] * 2
    assert_close(alone(batch, StepContext()), torch.tensor(expected, dtype=torch.float64))


def test_later_turns_count_by_the_discount() -> None:
    batch = batch_of([[0.0, 1.0], [0.0, 0.0]], [1.0, 0.0])
    part = TurnAdvantage(
        weight=2.0, discount=0.5, normalise=False, outcome=lambda batch, _: torch.zeros(4).double()
    )
    assert_close(part(batch, StepContext()), torch.tensor([0.5, 1.0, -0.5, -1.0], dtype=torch.float64))


def test_a_turn_without_a_reward_earns_none() -> None:
    batch = batch_of([[], []], [1.0, 0.0])
    assert len(batch.episode_N) == 0
    assert len(TurnAdvantage(weight=1.0)(batch, StepContext())) == 0


def test_each_turn_keeps_its_own_reward() -> None:
    """Rewards 1 and 2 of the turns, and a penalty of 0.5 that no turn accounts for."""
    batch = batch_of([[1.0, 2.0]], [2.5], tokens=2)
    by_turn, at_the_end = Whitened(placement="turn"), Whitened()
    returns = torch.tensor([2.5, 2.5, 1.5, 1.5], dtype=torch.float64)
    expected = (returns - 2.0) / returns.std()
    assert_close(by_turn(batch, StepContext()), expected, rtol=1e-6, atol=1e-7)
    assert at_the_end(batch, StepContext()).tolist() == [0.0] * 4


# ------------------------------------------------------------------ length, processes


def test_long_episodes_pay() -> None:
    group = ScoredGroup(
        id="a", episodes=tuple(scored(f"a/{n}", 1.0, context(n, [n])) for n in (1, 4, 5, 6, 9))
    )
    place = StepContext()
    assert OverlongPenalty(max_length=6, cache=2)(group, place).rewards == (1.0, 1.0, 0.5, 0.0, 0.0)
    assert place.records == {"overlong": 3}


class TwoShares:
    """The sums of two processes that are asked one after the other for the same sums."""

    def __init__(self, other: torch.Tensor) -> None:
        self.other = other.double()
        self.calls = 0

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == 1:
            self.mean = float((value[1] + self.other.sum()) / (value[0] + len(self.other)))
            return value + torch.stack([self.other.new_tensor(float(len(self.other))), self.other.sum()])
        return value + (self.other - self.mean).square().sum()


def test_whitening_is_over_all_processes() -> None:
    values = torch.tensor([1.0, 0.0, 0.0, 5.0, 2.0, 2.0, 3.0])
    comm: Comm = TwoShares(values[3:])
    whole = (values - values.mean()) / values.std()
    assert_close(whiten(values[:3], comm=comm), whole[:3], rtol=1e-6, atol=1e-6)
