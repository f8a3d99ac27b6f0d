"""Every algorithm learns: with a real engine, the token that pays is said more and more."""

from importlib.metadata import entry_points
from typing import Any

import pytest

from agentrl.trainers.configure import with_settings
from agentrl.trainers.recipe import Recipe
from agentrl.trainers.run.plan import find_algorithm
from tests.trainers.looping import run_say

NAMES = sorted(e.name for e in entry_points(group="agentrl.algorithms"))
QUICK: dict[str, Any] = {
    "steps": 12,
    "groups_per_step": 4,
    "group_size": 8,
    "learning_rate": 2e-2,
    "warmup_steps": 0,
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "grpo, as in the paper": ("grpo", {"aggregate": "seq_mean_token_mean", "clip_high": 0.2, "kl": 0.001}),
    "grpo, dual clip and turns": ("grpo", {"dual_clip": 3.0, "turn_weight": 0.5}),
    "grpo, corrected by token": ("grpo", {"mismatch": "truncate"}),
    "grpo, corrected by episode": ("grpo", {"mismatch": "mask", "mismatch_level": "episode"}),
    "dapo, overlong": ("dapo", {"overlong_length": 4, "overlong_cache": 2}),
    "dr_grpo": ("dr_grpo", {"max_length": 2}),
    "rloo, by token": ("rloo", {"level": "token"}),
    "rloo, divergence in the reward": ("rloo", {"kl": 0.01}),
    "reinforce_pp, without groups": ("reinforce_pp", {"group_size": 1, "groups_per_step": 32}),
    "reinforce_pp, divergence in the reward": ("reinforce_pp", {"kl": 0.01, "placement": "turn"}),
    "gspo, weighted by length": ("gspo", {"length_weighted": True}),
}
CASES = {name: (name, dict[str, Any]()) for name in NAMES} | VARIANTS


def test_the_family_is_installed() -> None:
    wanted = {"grpo", "dapo", "dr_grpo", "rloo", "reinforce_pp", "reinforce_pp_baseline", "gspo", "cispo"}
    assert wanted | {"sapo"} <= set(NAMES)


def recipe_of(case: str) -> Recipe:
    name, settings = CASES[case]
    return with_settings(find_algorithm(name), QUICK | settings)


@pytest.mark.parametrize("case", CASES)
def test_it_learns(case: str) -> None:
    metrics, _ = run_say(0, recipe=recipe_of(case))
    assert metrics[0].reward_mean < 0.3
    assert metrics[-1].reward_mean > 0.75, [round(m.reward_mean, 2) for m in metrics]


@pytest.mark.parametrize("name", NAMES)
def test_its_settings_make_it_again(name: str) -> None:
    make = find_algorithm(name)
    recipe = with_settings(make, QUICK)
    assert recipe.name == name and with_settings(make, recipe.settings) == recipe
