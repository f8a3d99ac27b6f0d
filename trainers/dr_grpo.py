"""Dr. GRPO: GRPO without its two biases.

Equation, with rho = pi / pi_old, B episodes in an update:

    A_i = r_i - mean_g r
    loss = sum_it -min(rho_it A_i, clip(rho_it, 1 - clip_low, 1 + clip_high) A_i) / (B max_length)

Neither an episode's length nor how hard its task is changes a token's weight. `max_length` is a constant that
only scales the learning rate: the longest episode in tokens that the agent may write. `count_empty_rows`:
whether episodes without a trained token count in B. All other settings: `agentrl.trainers.common`.

Source: arXiv:2503.20783 sec. 3.2.

The paper: `max_length=3000, group_size=8, learning_rate=1e-6`; its authors' script (github.com/sail-sg,
understand-r1-zero, and the defaults of oat) adds `groups_per_step=128, minibatches=8, beta2=0.95,
warmup_steps=0, final_rate=1.0`: 1024 answers in updates of 128, at a constant rate. `steps` is ours.

Logged: as in `agentrl.trainers.common`.

Known: the loss, which equals TRL's `dr_grpo` with `count_empty_rows=True` and verl's
`seq-mean-token-sum-norm` with `loss_scale_factor=max_length`. verl's own default divides by the padded width.
"""

from __future__ import annotations

from typing import Unpack

from agentrl.trainers.common import Common, assemble
from agentrl.trainers.losses.advantage import Singleton
from agentrl.trainers.recipe import Recipe
from agentrl.trainers.standard import EpisodeMean, FixedBounds, GroupAdvantage


def dr_grpo(
    *,
    max_length: int = 1024,
    singleton: Singleton = "zero",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    count_empty_rows: bool = False,
    **common: Unpack[Common],
) -> Recipe:
    """Make the recipe of Dr. GRPO; the module says what each setting does.

    Raises:
        ConfigError: A value out of range, or a setting that the others leave without use.

    >>> dr_grpo(max_length=100).aggregate
    EpisodeMean(within='const', max_length=100, count_empty_rows=False)
    """
    return assemble(
        "dr_grpo",
        dict(locals()),
        advantage=GroupAdvantage(normalise=False, singleton=singleton),
        bounds=FixedBounds(low=clip_low, high=clip_high),
        aggregate=EpisodeMean(within="const", max_length=max_length, count_empty_rows=count_empty_rows),
    )
