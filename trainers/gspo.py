"""GSPO: group sequence policy optimisation.

Equation, with T_i the trained tokens of episode i and A that of GRPO:

    s_i = exp(mean_t log pi / pi_old)
    loss = mean_i -min(s_i A_i, clip(s_i, 1 - clip_low, 1 + clip_high) A_i)

The ratio, and so the clip, is one per episode: its geometric mean over tokens, which lies so close to 1 that
the bounds are in ten-thousandths. It steadies mixture-of-experts models, whose token ratios jump.
`length_weighted` weighs an episode by T_i, which is LUSPO. `count_empty_rows`: whether episodes without a
trained token count in the mean. All other settings: `agentrl.trainers.common`.

Source: arXiv:2507.18071 eq. 5-7; gradients take the token form of sec. 4.3, which is the same where an
episode has one advantage. LUSPO: arXiv:2602.05261.

The paper: the defaults, `minibatches=4`.

Logged: `clip_share` is large, about a sixth in the paper, where token-wise methods have a thousandth; the
rest in `agentrl.trainers.common`.

Known: loss and gradient, which equal verl's `gspo` and TRL's `importance_sampling_level="sequence"`, and
`length_weighted` TRL's `luspo`.
"""

from __future__ import annotations

from typing import Unpack

from agentrl.trainers.common import Common, assemble
from agentrl.trainers.losses.advantage import Singleton
from agentrl.trainers.recipe import Recipe
from agentrl.trainers.standard import EpisodeMean, FixedBounds, GeometricMeanRatio, GroupAdvantage


def gspo(
    *,
    normalise: bool = True,
    singleton: Singleton = "zero",
    clip_low: float = 3e-4,
    clip_high: float = 4e-4,
    length_weighted: bool = False,
    count_empty_rows: bool = False,
    **common: Unpack[Common],
) -> Recipe:
    """Make the recipe of GSPO; the module says what each setting does.

    Raises:
        ConfigError: A value out of range, or a setting that the others leave without use.

    >>> gspo().forward_spec().scope
    'episode'
    """
    return assemble(
        "gspo",
        dict(locals()),
        advantage=GroupAdvantage(normalise=normalise, singleton=singleton),
        ratio=GeometricMeanRatio(),
        bounds=FixedBounds(low=clip_low, high=clip_high),
        aggregate=EpisodeMean(
            within="token_sum" if length_weighted else "token_mean", count_empty_rows=count_empty_rows
        ),
    )
