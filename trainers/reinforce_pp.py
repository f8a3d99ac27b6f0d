"""REINFORCE++: token returns, standardised over the whole batch; no critic and no group needed.

Equation, with r_t the reward of token t (0 but where an episode or a turn ends), less `kl` k1(pi_old,
pi_reference):

    u_t = r_t + discount u_{t+1}               over the agent's own tokens, through what tools said
    A_t = (u_t - mean u) / sqrt(var u + 1e-8)  over all tokens of the batch
    loss = mean over tokens of -min(rho_t A_t, clip(rho_t, 1 - clip_low, 1 + clip_high) A_t)

`placement="turn"` puts each turn's reward at that turn's last token, and what no turn accounts for
(penalties) at the episode's: with it a turn is not blamed for what came before. `group_size=1` is allowed.

REINFORCE++-baseline (`reinforce_pp_baseline`): u_t = r_i - mean_g r at every token of the episode, then
standardised in the same way; `kl` goes into the loss, by k2. A member that is alone in its group has baseline
0, as in verl.

All other settings: `agentrl.trainers.common`.

Source: arXiv:2501.03262 sec. 3.

The paper: the defaults, with a `kl` that differs between its experiments; `group_size=1` for the plain form.

Logged: `kl`, the mean divergence of a token; the rest in `agentrl.trainers.common`.

Known: both advantages, which equal verl's `reinforce_plus_plus` and `reinforce_plus_plus_baseline`; a batch
of one token or of equal returns gives 0 here and an error or noise there. Reconstructed:
`placement="turn"`.
"""

from __future__ import annotations

from typing import Unpack

from agentrl.trainers.common import Common, assemble
from agentrl.trainers.recipe import Recipe
from agentrl.trainers.standard import FixedBounds, TokenMean, Whitened
from agentrl.trainers.standard.advantages import Placement


def reinforce_pp(
    *,
    discount: float = 1.0,
    placement: Placement = "last",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    **common: Unpack[Common],
) -> Recipe:
    """Make the recipe of REINFORCE++; the module says what each setting does.

    Raises:
        ConfigError: A value out of range, or a setting that the others leave without use.

    >>> reinforce_pp(kl=0.01).forward_spec().before == {"old", "reference"}
    True
    """
    return assemble(
        "reinforce_pp",
        dict(locals()),
        advantage=Whitened(discount=discount, placement=placement),
        bounds=FixedBounds(low=clip_low, high=clip_high),
        aggregate=TokenMean(),
        least_group=1,
        kl_custom=("reward", "k1"),
    )


def reinforce_pp_baseline(
    *, clip_low: float = 0.2, clip_high: float = 0.2, **common: Unpack[Common]
) -> Recipe:
    """Make the recipe of REINFORCE++-baseline; the module says what each setting does.

    Raises:
        ConfigError: A value out of range, or a setting that the others leave without use.

    >>> reinforce_pp_baseline(kl=0.01).regularisers[0].estimator
    'k2'
    """
    return assemble(
        "reinforce_pp_baseline",
        dict(locals()),
        advantage=Whitened(baseline="group"),
        bounds=FixedBounds(low=clip_low, high=clip_high),
        aggregate=TokenMean(),
        kl_custom=("loss", "k2"),
    )
