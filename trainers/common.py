"""Settings that every algorithm has, and how they become the parts that all recipes share.

Sampling: `steps` steps of `groups_per_step` tasks with `group_size` attempts each, at `temperature`, which is
also that of the log-probabilities that are trained. Training ends sooner where the success over five steps
reaches `stop_success`: 0 is never; None is 0.985 for a small model made on the spot, never for a checkpoint.

Update: `inner_epochs` passes over a step's episodes, each in `minibatches` optimiser steps.

Truncation: episodes that a limit ended, or whose last turn was cut off at the limit of its tokens, are
trained on (`keep`), count in their groups and are not trained on (`mask`), or lose `truncation_penalty`
(`penalise`).

Reference: `kl` weighs the divergence from the weights at the start; at 0 there is no reference model.
`kl_in` says whether it is added to the `loss` or taken from the `reward` of each token (not with
`truncation="mask"` where groups are compared: a masked episode would lose nothing); `kl_estimator` is
one of k1, k2, k3, in the loss also k1+, k3+ (the gradient is that of k2) and k3_weighted (TRL's, k3 times
the ratio). What is not given is as is customary for the algorithm.

Mismatch: `mismatch` weighs a token's policy loss by how likely trainer and engine held it, pi_old /
pi_engine: `truncate` clamps the weight into [`mismatch_low`, `mismatch_high`] (0 and 2 unless given, TIS),
`mask` sets it to 0 outside (0.5 and 5 unless given, IcePop); `mismatch_level` is `token` or `episode`, the
product over an episode. TRL's default is mask, episode, 0, 3. Denominators stay as they are.

Optimiser: AdamW with `beta1`, `beta2`, `weight_decay`, gradients clipped to the norm `grad_clip`;
`learning_rate` rises over `warmup_steps` and then falls linearly to the share `final_rate` of itself at the
last step. None gives 1e-3 for a small model made on the spot and 1e-6 for a checkpoint.

`failure_share` is the share of recent episodes that may fail before the run stops.

Logged numbers, beside those of `agentrl.trainers.metrics`: `clip_share`, share of the tokens that a bound
left without gradient; `ratio_limited`, tokens whose ratio was too far from 1 for `exp`; `kl`, mean
divergence of a token by the chosen estimator; `kl_limited`, tokens at a limit of that;
`mismatch_truncated` or `mismatch_masked`, tokens on which the correction acted; `mismatch_weight`, its mean
weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, TypedDict

from agentrl.errors import ConfigError, unknown
from agentrl.trainers.optimiser import OptimiserSettings, Schedule
from agentrl.trainers.parts import Aggregate, Bounds, GroupTransform, Ratio, RewardTransform, Surrogate
from agentrl.trainers.recipe import FailureBudget, Recipe
from agentrl.trainers.saturation import stopping
from agentrl.trainers.standard import (
    Estimator,
    GroupAdvantage,
    KlPenalty,
    KlReward,
    LeaveOneOut,
    MismatchCorrection,
    PenaliseTruncated,
    PpoClip,
    TokenRatio,
    TurnAdvantage,
    Whitened,
)

KlPlace = Literal["loss", "reward"]


class Common(TypedDict, total=False):
    """Settings that every algorithm has; this module says what each does."""

    steps: int
    stop_success: float | None
    groups_per_step: int
    group_size: int
    temperature: float
    minibatches: int
    inner_epochs: int
    truncation: Literal["keep", "mask", "penalise"]
    truncation_penalty: float | None
    kl: float
    kl_in: KlPlace | None
    kl_estimator: Estimator | None
    mismatch: Literal["truncate", "mask"] | None
    mismatch_level: Literal["token", "episode"] | None
    mismatch_low: float | None
    mismatch_high: float | None
    learning_rate: float | None
    beta1: float
    beta2: float
    weight_decay: float
    grad_clip: float
    warmup_steps: int
    final_rate: float
    failure_share: float


DEFAULTS = Common(
    steps=40,
    stop_success=None,
    groups_per_step=32,
    group_size=8,
    temperature=1.0,
    minibatches=2,
    inner_epochs=1,
    truncation="keep",
    truncation_penalty=None,
    kl=0.0,
    kl_in=None,
    kl_estimator=None,
    mismatch=None,
    mismatch_level=None,
    mismatch_low=None,
    mismatch_high=None,
    learning_rate=None,
    beta1=0.9,
    beta2=0.99,
    weight_decay=0.0,
    grad_clip=1.0,
    warmup_steps=3,
    final_rate=0.1,
    failure_share=0.2,
)
SAMPLING = ("steps", "groups_per_step", "group_size", "temperature", "minibatches", "inner_epochs")
OTHERWISE: dict[str, Estimator] = {"loss": "k3", "reward": "k1"}
"""Estimator of the divergence where it is not in its customary place."""
CORRECTIONS = {"truncate": (0.0, 2.0), "mask": (0.5, 5.0)}
"""Bounds of the weight, by the kind of correction."""


def assemble(
    name: str,
    given: Mapping[str, Any],
    *,
    advantage: GroupAdvantage | LeaveOneOut | Whitened | TurnAdvantage,
    bounds: Bounds,
    aggregate: Aggregate,
    ratio: Ratio | None = None,
    surrogate: Surrogate | None = None,
    reward_transforms: tuple[RewardTransform, ...] = (),
    group_transforms: tuple[GroupTransform, ...] = (),
    max_generations: int = 1,
    least_group: int = 2,
    kl_custom: tuple[KlPlace, Estimator] = ("loss", "k3"),
) -> Recipe:
    """Make a recipe of the parts of an algorithm and of the settings that all have.

    Args:
        name: Of the algorithm.
        given: The `locals()` of its function: its own keywords, and the others under `common`.
        least_group: Fewest attempts at a task that the advantage can compare.
        kl_custom: Where the divergence customarily goes, and by which estimator.

    Raises:
        ConfigError: A value out of range, or a setting that the others leave without use.
    """
    settings = resolve(given)
    if settings["group_size"] < least_group:
        raise ConfigError(
            f"group_size={settings['group_size']}: {name} compares the attempts of a group, so it needs"
            f" {least_group} or more"
        )
    regularisers, token_rewards = _divergence(settings, kl_custom)
    _refuse_unequal(settings, advantage, token_rewards)
    return Recipe(
        name=name,
        settings=settings,
        **{key: settings[key] for key in SAMPLING},
        stop=stopping(settings["stop_success"]),
        reward_transforms=(*_penalties(settings), *reward_transforms),
        group_transforms=group_transforms,
        max_generations=max_generations,
        advantage=with_token_rewards(advantage, token_rewards),
        truncation="mask" if settings["truncation"] == "mask" else "keep",
        ratio=ratio or TokenRatio(),
        bounds=bounds,
        surrogate=surrogate or PpoClip(),
        correction=_correction(settings),
        regularisers=regularisers,
        aggregate=aggregate,
        optimiser=_optimiser(settings),
        failures=FailureBudget(share=settings["failure_share"]),
    )


def resolve(given: Mapping[str, Any]) -> dict[str, Any]:
    """Give all settings of an algorithm from its `locals()`.

    Raises:
        ConfigError: One that does not exist.
    """
    own = {key: value for key, value in given.items() if key != "common"}
    for key in given["common"]:
        if key not in DEFAULTS:
            raise ConfigError(unknown("setting", key, [*own, *DEFAULTS]))
    return {**own, **DEFAULTS, **given["common"]}


def with_token_rewards(
    advantage: GroupAdvantage | LeaveOneOut | Whitened | TurnAdvantage, rewards: tuple[KlReward, ...]
) -> GroupAdvantage | LeaveOneOut | Whitened | TurnAdvantage:
    """Give the advantage with rewards of tokens added to those of episodes."""
    if not rewards:
        return advantage
    if not isinstance(advantage, TurnAdvantage):
        return replace(advantage, token_rewards=rewards)
    assert isinstance(advantage.outcome, GroupAdvantage)
    return replace(advantage, outcome=replace(advantage.outcome, token_rewards=rewards))


def unused(name: str, value: Any, needs: str) -> ConfigError:
    """Say that a setting is without use."""
    return ConfigError(f"{name}={value}: without use here; it needs {needs}")


def _optimiser(settings: dict[str, Any]) -> OptimiserSettings:
    names = ("learning_rate", "beta1", "beta2", "weight_decay", "grad_clip")
    schedule = Schedule(warmup_steps=settings["warmup_steps"], final=settings["final_rate"])
    return OptimiserSettings(schedule=schedule, **{name: settings[name] for name in names})


def _penalties(settings: dict[str, Any]) -> tuple[PenaliseTruncated, ...]:
    truncation, penalty = settings["truncation"], settings["truncation_penalty"]
    if truncation not in ("keep", "mask", "penalise"):
        raise ConfigError(f"truncation={truncation!r}: need 'keep', 'mask' or 'penalise'")
    if truncation == "penalise" and penalty is None:
        raise ConfigError(
            "truncation='penalise' needs truncation_penalty, the reward that such an episode loses"
        )
    if truncation != "penalise" and penalty is not None:
        raise unused("truncation_penalty", penalty, "truncation='penalise'")
    return () if penalty is None else (PenaliseTruncated(penalty=penalty),)


def _divergence(
    settings: dict[str, Any], custom: tuple[KlPlace, Estimator]
) -> tuple[tuple[KlPenalty, ...], tuple[KlReward, ...]]:
    weight, place = settings["kl"], settings["kl_in"]
    estimator: Any = settings["kl_estimator"]
    if not 0 <= weight < math.inf:
        raise ConfigError(f"kl={weight}: need 0 or more, and finite")
    if not weight:
        for name, value in (("kl_in", place), ("kl_estimator", estimator)):
            if value is not None:
                raise unused(name, repr(value), "kl above 0")
        return (), ()
    place = place or custom[0]
    if place not in ("loss", "reward"):
        raise ConfigError(f"kl_in={place!r}: need 'loss' or 'reward'")
    estimator = estimator or (custom[1] if place == custom[0] else OTHERWISE[place])
    if place == "reward":
        return (), (KlReward(weight=weight, estimator=estimator),)
    return (KlPenalty(weight=weight, estimator=estimator),), ()


def _refuse_unequal(
    settings: dict[str, Any],
    advantage: GroupAdvantage | LeaveOneOut | Whitened | TurnAdvantage,
    token_rewards: tuple[KlReward, ...],
) -> None:
    """Refuse to compare attempts whose tokens cost something with masked ones, which have none that do."""
    in_groups = not isinstance(advantage, Whitened) or advantage.baseline == "group"
    if token_rewards and in_groups and settings["truncation"] == "mask":
        raise ConfigError(
            "truncation='mask' with the divergence in the reward (kl_in='reward'): a masked attempt has no"
            " tokens that cost it anything, and the others of its group would be compared with it; set"
            " kl_in='loss', or truncation='keep' or 'penalise'"
        )


def _correction(settings: dict[str, Any]) -> MismatchCorrection | None:
    kind = settings["mismatch"]
    level, low, high = (settings[f"mismatch_{name}"] for name in ("level", "low", "high"))
    if kind is None:
        for name, value in (("level", level), ("low", low), ("high", high)):
            if value is not None:
                raise unused(f"mismatch_{name}", value, "mismatch='truncate' or 'mask'")
        return None
    default = CORRECTIONS.get(kind, (0.0, 2.0))
    return MismatchCorrection(
        kind=kind,
        level=level or "token",
        low=default[0] if low is None else low,
        high=default[1] if high is None else high,
    )
