"""SAPO: soft adaptive policy optimisation.

Equation, with rho = pi / pi_old, A that of GRPO, tau = `temperature_positive` where A > 0 and else
`temperature_negative`:

    loss = mean_i mean_t -A_i (4 / tau) sigmoid(tau (rho_it - 1))

In the place of a clip stands a gate that closes gently: at rho = 1 the gradient is that of the plain policy
gradient, away from it it fades and never stops. The larger temperature for bad actions fades faster, since
pushing a token down lifts all others. `count_empty_rows`: whether episodes without a trained token count in
the mean. All other settings: `agentrl.trainers.common`.

Source: arXiv:2511.20347.

The paper: the defaults.

Logged: `clip_share` is 0 by construction; the rest in `agentrl.trainers.common`. The loss stands near
-2 A / tau, so its value says nothing.

Known: loss and gradient, which equal TRL's and verl's `sapo`.
"""

from __future__ import annotations

from typing import Unpack

from agentrl.trainers.common import Common, assemble
from agentrl.trainers.losses.advantage import Singleton
from agentrl.trainers.recipe import Recipe
from agentrl.trainers.standard import EpisodeMean, GroupAdvantage, Sapo, Unbounded


def sapo(
    *,
    normalise: bool = True,
    singleton: Singleton = "zero",
    temperature_positive: float = 1.0,
    temperature_negative: float = 1.05,
    count_empty_rows: bool = False,
    **common: Unpack[Common],
) -> Recipe:
    """Make the recipe of SAPO; the module says what each setting does.

    Raises:
        ConfigError: A value out of range, or a setting that the others leave without use.

    >>> sapo().surrogate
    Sapo(temperature_positive=1.0, temperature_negative=1.05)
    """
    return assemble(
        "sapo",
        dict(locals()),
        advantage=GroupAdvantage(normalise=normalise, singleton=singleton),
        bounds=Unbounded(),
        surrogate=Sapo(temperature_positive=temperature_positive, temperature_negative=temperature_negative),
        aggregate=EpisodeMean(count_empty_rows=count_empty_rows),
    )
