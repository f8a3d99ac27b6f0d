"""DAPO: decoupled clip and dynamic sampling.

Equation, with rho = pi / pi_old and A that of GRPO:

    l_it = -min(rho_it A_i, clip(rho_it, 1 - clip_low, 1 + clip_high) A_i)
    loss = sum_it l_it / number of tokens

Clip-higher: `clip_high` above `clip_low` lets unlikely tokens grow. Token mean: a long answer weighs as
much as its tokens. Dynamic sampling: a group in which `filter_metric` is the same for all members is
dropped, and others are sampled in the place of such ones, up to `max_generations` times a step in all; 1
drops without replacing. `score` is what the environment gave, `reward` that after the penalties below (the
same where there are none), `correct` the environment's word on the task. A member that is left alone in its
group differs from nobody and goes with it, so `singleton="raw"` is refused. Overlong shaping: with
`overlong_length`, an episode loses up to 1 as the tokens that it sampled go from `overlong_length` -
`overlong_cache` to `overlong_length`; overlong filtering is `truncation="mask"`. `dual_clip`: as in GRPO.
All other settings: `agentrl.trainers.common`.

Source: arXiv:2503.14476 eq. 8 (loss), 11 (dynamic sampling), 13 (overlong).

The paper: `overlong_length=20480, overlong_cache=4096, groups_per_step=512, group_size=16, minibatches=16,
learning_rate=1e-6, weight_decay=0.1, truncation="mask"`, a constant rate after 20 steps of warm-up
(`warmup_steps=20, final_rate=1.0`); its rewards are -1 and 1, and its filter looks at correctness.

Logged: `groups`, those sampled, the replacing ones too; `dropped["flat"]`, episodes of groups that were
dropped; `overlong`, episodes that lost something by their length; the rest in `agentrl.trainers.common`.

Known: all of the above, from the paper and from verl's recipe. Different here: verl samples a whole batch
again and cuts off the surplus, this samples as many groups as are missing; where groups are still missing
after the last time, verl stops, and this trains on what there is.
"""

from __future__ import annotations

from typing import Unpack

from agentrl.errors import ConfigError
from agentrl.trainers.choices import clip
from agentrl.trainers.common import Common, assemble, unused
from agentrl.trainers.losses.advantage import Singleton
from agentrl.trainers.recipe import Recipe
from agentrl.trainers.standard import DropFlat, GroupAdvantage, OverlongPenalty, TokenMean
from agentrl.trainers.standard.sampling import Metric


def dapo(
    *,
    normalise: bool = True,
    singleton: Singleton = "zero",
    filter_metric: Metric = "score",
    max_generations: int = 10,
    overlong_length: int | None = None,
    overlong_cache: int | None = None,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    dual_clip: float | None = None,
    **common: Unpack[Common],
) -> Recipe:
    """Make the recipe of DAPO; the module says what each setting does.

    Raises:
        ConfigError: A value out of range, or a setting that the others leave without use.

    >>> dapo(overlong_length=2048, overlong_cache=512).reward_transforms
    (OverlongPenalty(max_length=2048, cache=512),)
    """
    given = dict(locals())
    if singleton == "raw":
        raise unused("singleton", repr(singleton), "groups of one, which dynamic sampling drops")
    bounds, surrogate = clip(low=clip_low, high=clip_high, dual=dual_clip)
    return assemble(
        "dapo",
        given,
        advantage=GroupAdvantage(normalise=normalise, singleton=singleton),
        bounds=bounds,
        surrogate=surrogate,
        aggregate=TokenMean(),
        reward_transforms=_overlong(overlong_length, overlong_cache),
        group_transforms=(DropFlat(metric=filter_metric),),
        max_generations=max_generations,
    )


def _overlong(length: int | None, cache: int | None) -> tuple[OverlongPenalty, ...]:
    if (length is None) != (cache is None):
        raise ConfigError(f"overlong_length={length} with overlong_cache={cache}: they go together")
    return () if length is None or cache is None else (OverlongPenalty(max_length=length, cache=cache),)
