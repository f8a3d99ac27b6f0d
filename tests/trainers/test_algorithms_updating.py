"""Algorithms in the updater: however a batch is cut, whatever shares it, and what is counted."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from agentrl.episode import ScoredGroup
from agentrl.errors import ConfigError
from agentrl.trainers.cispo import cispo
from agentrl.trainers.dapo import dapo
from agentrl.trainers.dr_grpo import dr_grpo
from agentrl.trainers.grpo import grpo
from agentrl.trainers.gspo import gspo
from agentrl.trainers.parts import Ratio, Scope, Tokens
from agentrl.trainers.recipe import Recipe
from agentrl.trainers.reinforce_pp import reinforce_pp, reinforce_pp_baseline
from agentrl.trainers.rloo import rloo
from agentrl.trainers.sapo import sapo
from agentrl.trainers.standard import MismatchCorrection
from agentrl.trainers.updater import Updater
from tests.trainers.making import context, scored, small_model
from tests.trainers.updating import SETTINGS, gradient, same, step, two_groups


@dataclass(frozen=True)
class Drifted:
    """A ratio against other old log-probabilities, as if the weights had moved already."""

    ratio: Ratio

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"old"})

    @property
    def scope(self) -> Scope:
        found: Scope = getattr(self.ratio, "scope", "token")
        return found

    def __call__(self, tokens: Tokens) -> Tensor:
        old = {"old": tokens["old"] + 0.6 * torch.sin(7 * tokens["old"])}
        return self.ratio(replace(tokens, columns={**tokens.columns, **old}))


def drifted(recipe: Recipe) -> Recipe:
    return replace(recipe, ratio=Drifted(recipe.ratio))


RECIPES = {
    "grpo": grpo(minibatches=1, kl=0.1, turn_weight=0.5),
    "dapo": dapo(minibatches=1),
    "dr_grpo": dr_grpo(minibatches=1, max_length=9),
    "rloo": rloo(minibatches=1, kl=0.1),
    "reinforce_pp": reinforce_pp(minibatches=1, kl=0.1, discount=0.9),
    "reinforce_pp_baseline": reinforce_pp_baseline(minibatches=1, kl=0.1),
    "gspo": gspo(minibatches=1, clip_low=0.1, clip_high=0.1),
    "cispo": cispo(minibatches=1),
    "sapo": sapo(minibatches=1),
    "truncated": grpo(minibatches=1, mismatch="truncate", mismatch_level="episode"),
    "masked": grpo(minibatches=1, mismatch="mask", mismatch_low=0.01, mismatch_high=1.0),
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_gradient_does_not_depend_on_the_cut(name: str) -> None:
    recipe, reference = drifted(RECIPES[name]), small_model(seed=3, dtype=torch.float64)
    whole = gradient(two_groups(), recipe, reference=reference)
    for max_tokens in (1, 25, 60):
        same(whole, gradient(two_groups(), recipe, reference=reference, max_tokens=max_tokens))


def several_contexts() -> list[ScoredGroup]:
    """An episode in two contexts beside ordinary ones."""
    members = (
        scored("a/0", 1, context(1, [2, 1]), context(2, [3])),
        scored("a/1", 0, context(3, [2])),
        scored("a/2", 0, context(4, [1])),
    )
    return [ScoredGroup(id="a", episodes=members)]


@pytest.mark.parametrize("name", ["gspo", "rloo", "truncated"])
def test_the_ratio_of_an_episode_spans_its_contexts(name: str) -> None:
    """A part that needs the whole episode gets it, also where one of its contexts cannot teach."""
    recipe = drifted(RECIPES[name])

    def mute_second(advantage_N: Tensor, batch: object, place: object) -> Tensor:
        muted = advantage_N.clone()
        muted[3:6] = 0.0
        return muted

    class Everything:
        """The surrogate of the recipe; all rows pass through the model."""

        uses_advantage = False

        def __call__(self, log_ratio_N: Tensor, bounds: object, tokens: Tokens) -> Tensor:
            assert len(tokens.logp_N) == 9
            return recipe.surrogate(log_ratio_N, bounds, tokens)  # type: ignore[arg-type]

    muted = replace(recipe, shapers=(mute_second,))
    reference = small_model(seed=3, dtype=torch.float64)
    full = gradient(several_contexts(), replace(muted, surrogate=Everything()), reference=reference)
    same(gradient(several_contexts(), muted, reference=reference), full)


def test_what_acts_is_counted() -> None:
    def records(recipe: Recipe) -> dict[str, float]:
        updater = Updater(small_model(), SETTINGS, total_steps=1)
        return dict(step(updater, two_groups(), drifted(recipe)).records)

    assert records(cispo(minibatches=1, clip_low=0.0, clip_high=0.0))["weight_bounded"] > 10
    assert records(cispo(minibatches=1, clip_high=math.inf))["weight_bounded"] == 0
    assert records(grpo(minibatches=1, dual_clip=1.29))["dual_clipped"] > 0
    assert records(grpo(minibatches=1, dual_clip=1e9))["dual_clipped"] == 0
    truncated = records(grpo(minibatches=1, mismatch="truncate", mismatch_low=0.1))
    assert truncated["mismatch_truncated"] > 0 and 0 < truncated["mismatch_weight"] < 2
    masked = records(grpo(minibatches=1, mismatch="mask"))
    assert masked["mismatch_masked"] > truncated["mismatch_truncated"]


def test_a_mean_is_a_mean_over_minibatches_and_epochs_too() -> None:
    """The divergence of two optimiser steps is not twice that of one."""

    def divergence(recipe: Recipe) -> float:
        settings = replace(SETTINGS, learning_rate=1e-12)
        updater = Updater(small_model(), settings, total_steps=1)
        updater.keep_reference()
        for parameter in updater.model.parameters():
            parameter.data += 0.05 * torch.ones_like(parameter)
        return step(updater, two_groups(), recipe).records["kl"]

    once = divergence(grpo(kl=0.1, minibatches=1))
    assert once > 1e-3
    assert divergence(grpo(kl=0.1, minibatches=2, inner_epochs=3)) == pytest.approx(once, rel=1e-4)


def test_clipped_tokens_are_a_share() -> None:
    updater = Updater(small_model(), SETTINGS, total_steps=1)
    assert step(updater, two_groups(), grpo(minibatches=1)).clip_share == 0
    updater = Updater(small_model(), SETTINGS, total_steps=1)
    tight = grpo(minibatches=1, clip_low=0.0, clip_high=0.0)
    assert 0.2 < step(updater, two_groups(), drifted(tight)).clip_share < 0.8


def test_weights_of_zero_are_a_loss_of_zero() -> None:
    """All tokens masked is no error: nothing is learnt, and it is counted."""
    updater = Updater(small_model(), SETTINGS, total_steps=1)
    far = MismatchCorrection(kind="mask", level="episode", low=1.0, high=1.0)
    recipe = replace(grpo(minibatches=1), correction=far)
    stats = step(updater, two_groups(), recipe)
    assert stats.loss == 0 and stats.grad_norm == 0 and not stats.skipped
    assert stats.records["mismatch_masked"] == stats.num_tokens and stats.records["mismatch_weight"] == 0


def test_a_loss_that_is_one_number_cannot_be_corrected() -> None:
    class Whole:
        def __call__(self, log_ratio_N: Tensor, bounds: object, tokens: Tokens) -> Tensor:
            return log_ratio_N.sum()

    updater = Updater(small_model(), SETTINGS, total_steps=1)
    recipe = replace(grpo(minibatches=1, mismatch="truncate"), surrogate=Whole())
    with pytest.raises(ConfigError, match="Whole gives no loss per token to correct"):
        step(updater, two_groups(), recipe)


def test_nothing_is_computed_that_no_part_reads() -> None:
    assert grpo(mismatch="mask").forward_spec().during == {"old", "behaviour"}
    assert rloo(kl=0.1).forward_spec().before == {"old", "reference"}
    assert rloo(kl=0.1).forward_spec().during == {"old"}
    assert reinforce_pp().forward_spec().before == frozenset()
    scopes = {name: recipe.forward_spec().scope for name, recipe in RECIPES.items()}
    assert {name for name, scope in scopes.items() if scope == "episode"} == {"gspo", "rloo", "truncated"}
    assert {scope for scope in scopes.values()} == {"token", "episode"}
