"""Settings: what is asked for is used, or refused in one line."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agentrl.errors import ConfigError
from agentrl.trainers.configure import keywords, read_value, with_settings
from agentrl.trainers.grpo import grpo
from agentrl.trainers.optimiser import Optimiser, OptimiserSettings, Schedule
from agentrl.trainers.parts import StepContext
from agentrl.trainers.recipe import FailureBudget, Recipe
from agentrl.trainers.standard import EpisodeMean, KlPenalty, PenaliseTruncated, TokenMean
from tests.trainers.making import context, scored

REFUSED = [
    ({"group_size": 1}, "group_size=1: grpo compares the attempts of a group, so it needs 2 or more"),
    ({"group_sise": 4}, "no setting 'group_sise'; did you mean 'group_size'?"),
    ({"group_size": "four"}, "group_size='four': need a whole number"),
    ({"group_size": 2.5}, "group_size=2.5: need a whole number"),
    ({"group_size": True}, "group_size=True: need a whole number"),
    ({"normalise": "perhaps"}, "normalise='perhaps': need true or false"),
    ({"aggregate": "mean"}, "aggregate='mean': need one of 'token_mean', 'seq_mean_token_mean'"),
    ({"aggregate": "const_norm"}, "aggregate='const_norm' needs max_length"),
    ({"max_length": 5}, "max_length=5: without use here; it needs aggregate='const_norm'"),
    ({"count_empty_rows": True}, "count_empty_rows=True: without use here"),
    ({"kl_estimator": "k2"}, "kl_estimator='k2': without use here; it needs kl above 0"),
    ({"kl": -1}, "kl=-1.0: need 0 or more"),
    ({"truncation": "penalise"}, "truncation='penalise' needs truncation_penalty"),
    ({"truncation_penalty": 1}, "truncation_penalty=1.0: without use here; it needs truncation='penalise'"),
    ({"temperature": 0}, "temperature=0.0: training samples, so it needs a finite number above 0"),
    ({"temperature": float("inf")}, "temperature=inf: training samples"),
    ({"weight_decay": float("nan")}, "weight_decay=nan: need 0 or more, and finite"),
    ({"weight_decay": float("inf")}, "weight_decay=inf: need 0 or more, and finite"),
    ({"steps": 0}, "steps=0: need 1 or more"),
    ({"minibatches": 0}, "minibatches=0: need 1 or more"),
    ({"clip_low": 1.5}, r"clip_low=1.5: need a value in \[0, 1\]"),
    ({"clip_high": -0.1}, "clip_high=-0.1: need 0 or more"),
    ({"learning_rate": 0}, "learning_rate=0.0: need more than 0"),
    ({"beta2": 1.0}, "beta2=1.0: need a value in"),
    ({"grad_clip": -1}, "grad_clip=-1.0: need more than 0"),
    ({"final_rate": 2}, "final=2.0: need a value in"),
    ({"failure_share": 2}, "failure_share=2.0: need a value in"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_wrong_settings_are_refused_in_one_line(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        with_settings(grpo, settings)
    assert "\n" not in str(caught.value)


def test_words_become_values() -> None:
    words = {"kl": "0.1", "kl_estimator": "k1", "normalise": "False", "steps": "3", "max_length": "none"}
    recipe = with_settings(grpo, words)
    assert recipe.regularisers == (KlPenalty(weight=0.1, estimator="k1"),)
    assert recipe.steps == 3 and recipe.settings["max_length"] is None


def test_the_settings_of_a_recipe_make_it_again() -> None:
    recipe = grpo(
        kl=0.01, aggregate="const_norm", max_length=9, truncation="penalise", truncation_penalty=0.5
    )
    assert with_settings(grpo, recipe.settings) == recipe
    assert set(recipe.settings) == set(keywords(grpo))


def test_the_parts_are_those_of_the_settings() -> None:
    recipe = grpo(truncation="penalise", truncation_penalty=0.5)
    assert recipe.reward_transforms == (PenaliseTruncated(penalty=0.5),)
    assert recipe.aggregate == TokenMean() and recipe.regularisers == ()
    assert grpo(aggregate="const_norm", max_length=7).aggregate == EpisodeMean(within="const", max_length=7)
    assert grpo(truncation="mask").truncation == "mask"


def test_nothing_is_computed_that_no_part_reads() -> None:
    spec = grpo().forward_spec()
    assert spec.before == frozenset() and spec.during == {"old"} and spec.scope == "token"
    assert grpo(kl=0.1).forward_spec().during == {"old", "reference"}


def test_a_part_that_reads_what_does_not_exist_is_refused() -> None:
    class Hopeful(TokenMean):
        reads = frozenset({"entropie"})

    with pytest.raises(ConfigError, match="Hopeful: no column 'entropie'; did you mean 'entropy'"):
        dataclasses.replace(grpo(), aggregate=Hopeful())


def test_a_recipe_can_be_made_of_parts() -> None:
    recipe = Recipe(name="mine", advantage=lambda batch, context: batch.spread(batch.reward_E), group_size=1)
    assert recipe.group_size == 1 and recipe.forward_spec().during == {"old"}


def test_a_penalty_hits_only_what_a_limit_ended() -> None:
    from agentrl.episode import ScoredGroup

    members = (scored("a/0", 1, context(0, [1])), scored("a/1", 1, context(1, [1]), finish="max_turns"))
    group = PenaliseTruncated(penalty=0.25)(ScoredGroup(id="a", episodes=members), StepContext())
    assert group.rewards == (1, 0.75)


# ------------------------------------------------------------------ schedule


def test_warm_up_flat_decay() -> None:
    schedule = Schedule(warmup_steps=10, decay_from=0.6, final=0.0)
    factors = [schedule.factor(step, total=101) for step in (0, 9, 10, 60, 80, 100)]
    assert factors == pytest.approx([0.1, 1.0, 1.0, 1.0, 1 - 19.4 / 39.4, 0.0])


@given(st.integers(0, 20), st.floats(0, 1), st.floats(0, 1), st.integers(1, 50), st.integers(0, 60))
def test_a_factor_is_a_share(warmup: int, begin: float, final: float, total: int, step: int) -> None:
    factor = Schedule(warmup_steps=warmup, decay_from=begin, final=final).factor(step, total=total)
    assert min(final, 1 / max(warmup, 1)) - 1e-9 <= factor <= 1


def test_the_rate_is_left_open_until_the_model_is_known() -> None:
    settings = grpo().optimiser
    assert settings.resolved(from_scratch=True).learning_rate == 1e-3
    assert settings.resolved(from_scratch=False).learning_rate == 1e-6
    assert grpo(learning_rate=0.5).optimiser.resolved(from_scratch=True).learning_rate == 0.5
    with pytest.raises(ConfigError, match="learning_rate is open"):
        Optimiser([torch.nn.Parameter(torch.zeros(2))], settings, total_steps=1)


def test_a_schedule_can_begin_anew() -> None:
    first = OptimiserSettings(learning_rate=1.0)
    optimiser = Optimiser([torch.nn.Parameter(torch.zeros(2))], first, total_steps=3)
    optimiser.advance()
    optimiser.restart_schedule(
        OptimiserSettings(learning_rate=2.0, schedule=Schedule(final=0.0)), total_steps=3
    )
    rates = []
    for _ in range(3):
        rates.append(optimiser.learning_rate)
        optimiser.advance()
    assert rates == [2.0, 1.0, 0.0]
    with pytest.raises(ConfigError, match="total_steps=0"):
        optimiser.restart_schedule(first, total_steps=0)


def test_budgets_are_checked() -> None:
    assert FailureBudget().share == 0.2
    with pytest.raises(ConfigError, match="failure_share"):
        FailureBudget(share=-1)


def test_a_hint_of_no_simple_kind_is_described() -> None:
    with pytest.raises(ConfigError, match=r"x=3: need a value that only code can give"):
        read_value("x", 3, tuple[int, ...])
