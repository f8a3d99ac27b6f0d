"""GRPO: group-relative policy optimisation.

Equation, for token t of attempt i at a task, with rho = pi / pi_old:

    A_i = (r_i - mean_g r) / (std_g r + 1e-6)                    over the attempts of a group, std unbiased
    l_it = -min(rho_it A_i, clip(rho_it, 1 - clip_low, 1 + clip_high) A_i)
    loss = average of l_it + kl * k3(pi, pi_reference)

Advantage: with `normalise` the reward is divided by the group's standard deviation; without, it is that of
Dr. GRPO. `singleton` says what the last member of a group gets whose others failed: 0, or the raw reward.
With `turn_weight` each turn's own advantage is added, that many times: its reward, and `turn_discount`
times what the next turn is worth, among the same turns of the group (in the manner of MT-GRPO). Equal
rewards give exactly 0.

Update: `dual_clip` (3 in verl) bounds the loss of a bad token whose ratio has grown. `aggregate` is one of
the averages in `agentrl.trainers.losses.aggregate`; `const_norm` needs `max_length`, the length that every
episode is divided by; `count_empty_rows` lets an average over episodes count those without a trained token
too. All other settings: `agentrl.trainers.common`.

Source: DeepSeekMath, arXiv:2402.03300 eq. 3 and sec. 4.1.2; dual clip: arXiv:1912.09729; turns: MT-GRPO,
arXiv:2505.11821.

The paper: `clip_high=0.2, aggregate="seq_mean_token_mean", kl=0.04, learning_rate=1e-6, groups_per_step=16,
group_size=64, minibatches=1`: batches of 1024 answers with one update each. It gives neither clip nor
schedule, nor betas, decay and limit of the gradient: `clip_high=0.2` is PPO's, `warmup_steps=0,
final_rate=1.0` makes the rate constant, and what is not named here is ours. The defaults are its advantage
with clip and average of DAPO, without a reference model, as in most later work.

Logged: `zero_variance_groups`, groups that cannot teach: all members had one reward, or none is left;
`dual_clipped`, tokens on which the dual clip acted; the rest in `agentrl.trainers.common`.

Known: the loss, from the paper and from TRL and verl, which it equals. Reconstructed: turns; the papers have
two turns and one reward each, this has any number.
"""

from __future__ import annotations

from typing import Unpack

from agentrl.trainers.choices import Averaging, average, clip
from agentrl.trainers.common import Common, assemble, unused
from agentrl.trainers.losses.advantage import Singleton
from agentrl.trainers.recipe import Recipe
from agentrl.trainers.standard import GroupAdvantage, TurnAdvantage


def grpo(
    *,
    normalise: bool = True,
    singleton: Singleton = "zero",
    turn_weight: float = 0.0,
    turn_discount: float | None = None,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    dual_clip: float | None = None,
    aggregate: Averaging = "token_mean",
    max_length: int | None = None,
    count_empty_rows: bool | None = None,
    **common: Unpack[Common],
) -> Recipe:
    """Make the recipe of GRPO with the clip and the mean of DAPO; the module says what each setting does.

    Raises:
        ConfigError: A value out of range, or a setting that the others leave without use.

    >>> grpo(clip_high=0.2).bounds
    FixedBounds(low=0.2, high=0.2)
    """
    given = dict(locals())
    outcome = GroupAdvantage(normalise=normalise, singleton=singleton)
    if not turn_weight and turn_discount is not None:
        raise unused("turn_discount", turn_discount, "turn_weight above 0")
    turns = TurnAdvantage(
        outcome=outcome, weight=turn_weight, discount=turn_discount or 0.0, normalise=normalise
    )
    bounds, surrogate = clip(low=clip_low, high=clip_high, dual=dual_clip)
    return assemble(
        "grpo",
        given,
        advantage=turns if turn_weight else outcome,
        bounds=bounds,
        surrogate=surrogate,
        aggregate=average(aggregate, max_length=max_length, count_empty=count_empty_rows),
    )
