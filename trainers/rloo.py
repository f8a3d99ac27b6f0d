"""RLOO: REINFORCE with the other attempts as baseline.

Equation, with R_i the reward of an episode, less `kl` times its divergence from the reference:

    A_i = R_i - mean of R over the other attempts at the task
    level="episode":  loss = mean_i -min(s_i A_i, clip(s_i, 1 - clip_low, 1 + clip_high) A_i),
                      s_i = prod_t pi / pi_old: an episode is one action
    level="token":    loss = mean over tokens of the same with each token's own ratio

At one optimiser step per sampling (`minibatches=1`) every ratio is 1 and both are REINFORCE, up to the
average; `clip_low=1.0, clip_high=inf` takes the clip away. A product of many ratios leaves the clip soon:
with long episodes and several minibatches prefer `token`. `kl` goes into the reward, by k1, unless `kl_in`
says otherwise. `count_empty_rows`: whether episodes without a trained token count in the mean over
episodes. All other settings: `agentrl.trainers.common`.

Source: Back to Basics, arXiv:2402.14740 sec. 2.2; the clipped form is TRL's RLOOTrainer.

The paper: `minibatches=1, clip_low=1.0, clip_high=inf` and groups of 2 or 4; `kl` by the task.

Logged: as in `agentrl.trainers.common`; `clip_share` counts the tokens of clipped episodes.

Known: advantage (TRL and verl), the loss of `level="episode"` (TRL's, which it equals). TRL can also
standardise advantages over the batch; `grpo` and `reinforce_pp` do that better.
"""

from __future__ import annotations

from typing import Literal, Unpack

from agentrl.errors import ConfigError
from agentrl.trainers.common import Common, assemble, unused
from agentrl.trainers.losses.advantage import Singleton
from agentrl.trainers.recipe import Recipe
from agentrl.trainers.standard import (
    EpisodeMean,
    FixedBounds,
    LeaveOneOut,
    ProductRatio,
    TokenMean,
    TokenRatio,
)


def rloo(
    *,
    level: Literal["episode", "token"] = "episode",
    singleton: Singleton = "zero",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    count_empty_rows: bool | None = None,
    **common: Unpack[Common],
) -> Recipe:
    """Make the recipe of RLOO; the module says what each setting does.

    Raises:
        ConfigError: A value out of range, or a setting that the others leave without use.

    >>> rloo().ratio
    ProductRatio(limit=10.0)
    """
    given = dict(locals())
    if level not in ("episode", "token"):
        raise ConfigError(f"level={level!r}: need 'episode' or 'token'")
    if level == "token" and count_empty_rows is not None:
        raise unused("count_empty_rows", count_empty_rows, "level='episode'")
    whole = level == "episode"
    return assemble(
        "rloo",
        given,
        advantage=LeaveOneOut(singleton=singleton),
        ratio=ProductRatio() if whole else TokenRatio(),
        bounds=FixedBounds(low=clip_low, high=clip_high),
        aggregate=EpisodeMean(count_empty_rows=bool(count_empty_rows)) if whole else TokenMean(),
        kl_custom=("reward", "k1"),
    )
