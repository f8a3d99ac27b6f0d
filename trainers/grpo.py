"""GRPO: group-relative policy optimisation.

Sampling: `steps` steps of `groups_per_step` tasks with `group_size` attempts each (2 or more), at
`temperature`, which is also that of the log-probabilities that are trained. Training ends sooner where the
success over five steps reaches `stop_success`: 0 is never; None is 0.985 for a small model made on the spot,
never for a checkpoint.

Advantage: with `normalise` the reward is divided by the group's standard deviation; without, it is Dr. GRPO.
`singleton` says what the last member of a group gets whose others failed: 0, or the raw reward. `truncation`:
episodes that a limit ended are trained on, not trained on, or lose `truncation_penalty`.

Update: `inner_epochs` passes over a step's episodes, each in `minibatches` optimiser steps. The ratio earns
nothing outside [1 - `clip_low`, 1 + `clip_high`]. `aggregate` is one of the averages in
`agentrl.trainers.losses.aggregate`; `const_norm` needs `max_length`, the length that every episode is divided
by; `count_empty_rows` lets an average over episodes count those without a trained token too. `kl` weighs the
divergence from the weights at the start by `kl_estimator` (k3 unless given); at 0 there is no reference
model.

Optimiser: AdamW with `beta1`, `beta2`, `weight_decay`, gradients clipped to the norm `grad_clip`;
`learning_rate` rises over `warmup_steps` and then falls linearly to the share `final_rate` of itself at the
last step. None gives 1e-3 for a small model made on the spot and 1e-6 for a checkpoint.

`failure_share` is the share of recent episodes that may fail before the run stops.

Source: DeepSeekMath, arXiv:2402.03300; DAPO, arXiv:2503.14476.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from agentrl.errors import ConfigError
from agentrl.trainers.losses.advantage import Singleton
from agentrl.trainers.optimiser import OptimiserSettings, Schedule
from agentrl.trainers.parts import Aggregate
from agentrl.trainers.recipe import FailureBudget, Recipe
from agentrl.trainers.saturation import Saturation, Stop
from agentrl.trainers.standard import (
    EpisodeMean,
    Estimator,
    FixedBounds,
    GroupAdvantage,
    KlPenalty,
    PenaliseTruncated,
    TokenMean,
)

Averaging = Literal["token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "const_norm"]


def grpo(
    *,
    steps: int = 40,
    stop_success: float | None = None,
    groups_per_step: int = 32,
    group_size: int = 8,
    temperature: float = 1.0,
    normalise: bool = True,
    singleton: Singleton = "zero",
    truncation: Literal["keep", "mask", "penalise"] = "keep",
    truncation_penalty: float | None = None,
    minibatches: int = 2,
    inner_epochs: int = 1,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    aggregate: Averaging = "token_mean",
    max_length: int | None = None,
    count_empty_rows: bool | None = None,
    kl: float = 0.0,
    kl_estimator: Estimator | None = None,
    learning_rate: float | None = None,
    beta1: float = 0.9,
    beta2: float = 0.99,
    weight_decay: float = 0.0,
    grad_clip: float = 1.0,
    warmup_steps: int = 3,
    final_rate: float = 0.1,
    failure_share: float = 0.2,
) -> Recipe:
    """Make the recipe of GRPO with the clip and the mean of DAPO; the module says what each setting does.

    Raises:
        ConfigError: A value out of range, or a setting that the others leave without use.

    >>> grpo(clip_high=0.2).bounds
    FixedBounds(low=0.2, high=0.2)
    """
    settings = dict(locals())
    if group_size < 2:
        raise ConfigError(
            f"group_size={group_size}: GRPO compares the attempts of a group, so it needs 2 or more"
        )
    return Recipe(
        name="grpo",
        settings=settings,
        steps=steps,
        stop=stopping(stop_success),
        groups_per_step=groups_per_step,
        group_size=group_size,
        temperature=temperature,
        reward_transforms=_penalties(truncation, truncation_penalty),
        advantage=GroupAdvantage(normalise=normalise, singleton=singleton),
        truncation="mask" if truncation == "mask" else "keep",
        minibatches=minibatches,
        inner_epochs=inner_epochs,
        bounds=FixedBounds(low=clip_low, high=clip_high),
        regularisers=_regularisers(kl, kl_estimator),
        aggregate=_aggregate(aggregate, max_length, count_empty_rows),
        optimiser=_optimiser(settings),
        failures=FailureBudget(share=failure_share),
    )


def stopping(success: float | None) -> Stop | Literal["auto"] | None:
    """Read `stop_success`."""
    if success is None:
        return "auto"
    return Saturation(success=success) if success else None


def _optimiser(settings: dict[str, Any]) -> OptimiserSettings:
    names = ("learning_rate", "beta1", "beta2", "weight_decay", "grad_clip")
    schedule = Schedule(warmup_steps=settings["warmup_steps"], final=settings["final_rate"])
    return OptimiserSettings(schedule=schedule, **{name: settings[name] for name in names})


def _unused(name: str, value: Any, needs: str) -> ConfigError:
    return ConfigError(f"{name}={value}: without use here; it needs {needs}")


def _penalties(truncation: str, penalty: float | None) -> tuple[PenaliseTruncated, ...]:
    if truncation not in ("keep", "mask", "penalise"):
        raise ConfigError(f"truncation={truncation!r}: need 'keep', 'mask' or 'penalise'")
    if truncation == "penalise" and penalty is None:
        raise ConfigError(
            "truncation='penalise' needs truncation_penalty, the reward that such an episode loses"
        )
    if truncation != "penalise" and penalty is not None:
        raise _unused("truncation_penalty", penalty, "truncation='penalise'")
    return () if penalty is None else (PenaliseTruncated(penalty=penalty),)


def _regularisers(kl: float, estimator: Estimator | None) -> tuple[KlPenalty, ...]:
    if kl < 0:
        raise ConfigError(f"kl={kl}: need 0 or more")
    if not kl and estimator is not None:
        raise _unused("kl_estimator", repr(estimator), "kl above 0")
    return (KlPenalty(weight=kl, estimator=estimator or "k3"),) if kl else ()


def _aggregate(name: Averaging, max_length: int | None, count_empty: bool | None) -> Aggregate:
    if name != "const_norm" and max_length is not None:
        raise _unused("max_length", max_length, "aggregate='const_norm'")
    if name == "token_mean":
        if count_empty is not None:
            raise _unused("count_empty_rows", count_empty, "an average over episodes")
        return TokenMean()
    count = bool(count_empty)
    if name == "seq_mean_token_mean":
        return EpisodeMean(count_empty_rows=count)
    if name == "seq_mean_token_sum":
        return EpisodeMean(within="token_sum", count_empty_rows=count)
    if name != "const_norm":
        raise ConfigError(f"aggregate={name!r}: need one of {', '.join(get_args(Averaging))}")
    if max_length is None:
        raise ConfigError("aggregate='const_norm' needs max_length, the longest episode in tokens")
    return EpisodeMean(within="const", max_length=max_length, count_empty_rows=count)
