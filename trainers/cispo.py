"""CISPO: clipped importance sampling.

Equation, with sg the stop of the gradient and A that of GRPO:

    loss = mean over tokens of -sg(clip(rho_it, 1 - clip_low, 1 + clip_high)) A_i log pi_it

The ratio is a bounded weight and no token is ever left without a gradient, so rare words that turn a line
of thought keep learning. `clip_low=1.0` bounds from above alone; the largest weight is 1 + `clip_high`. All
other settings: `agentrl.trainers.common`.

Source: MiniMax-M1, arXiv:2506.13585 eq. 4-5.

The paper: no bound from below, as here; it does not give the upper one. TRL recommends a largest weight of
5, which is the default. verl bounds both sides: `clip_low=0.2, clip_high=0.2` (0.28).

Logged: `weight_bounded`, tokens whose weight a bound cut; `clip_share` is 0 by construction; the rest in
`agentrl.trainers.common`.

Known: loss and gradient, which equal TRL's and verl's `cispo`. The value of the loss says nothing: only its
gradient means something.
"""

from __future__ import annotations

from typing import Unpack

from agentrl.trainers.common import Common, assemble
from agentrl.trainers.losses.advantage import Singleton
from agentrl.trainers.recipe import Recipe
from agentrl.trainers.standard import Cispo, FixedBounds, GroupAdvantage, TokenMean


def cispo(
    *,
    normalise: bool = True,
    singleton: Singleton = "zero",
    clip_low: float = 1.0,
    clip_high: float = 4.0,
    **common: Unpack[Common],
) -> Recipe:
    """Make the recipe of CISPO; the module says what each setting does.

    Raises:
        ConfigError: A value out of range, or a setting that the others leave without use.

    >>> cispo().surrogate
    Cispo()
    """
    return assemble(
        "cispo",
        dict(locals()),
        advantage=GroupAdvantage(normalise=normalise, singleton=singleton),
        bounds=FixedBounds(low=clip_low, high=clip_high),
        surrogate=Cispo(),
        aggregate=TokenMean(),
    )
