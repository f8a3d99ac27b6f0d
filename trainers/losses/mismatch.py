"""Corrections for tokens that the engine drew from a distribution other than the trainer's.

w = exp(old - behaviour), from the trainer's log-probabilities before the step and those of the engine at
sampling. The weight is detached, multiplies the policy term alone, and leaves every denominator as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agentrl.trainers.losses.returns import episode_sum

LIMIT = 20.0
"""Of the logarithm of a weight; beyond it every bound has acted, and exp must not overflow."""


def token_weights(old_N: Tensor, behaviour_N: Tensor) -> Tensor:
    """w_t = exp(old_t - behaviour_t), detached; 1 where nothing was sampled (behaviour is NaN)."""
    return _log_weights(old_N, behaviour_N).clamp(-LIMIT, LIMIT).exp()


def episode_weights(old_N: Tensor, behaviour_N: Tensor, episode_N: Tensor, *, num_episodes: int) -> Tensor:
    """Product of an episode's token weights, at each of its tokens, detached."""
    log_E = episode_sum(_log_weights(old_N, behaviour_N), episode_N, num_episodes=num_episodes)
    return log_E.clamp(-LIMIT, LIMIT).exp()[episode_N]


def truncate(weight_N: Tensor, *, low: float, high: float) -> Tensor:
    """Weights clamped into [low, high]: truncated importance sampling, TIS.

    Source: Yao et al., "Your efficient RL framework secretly brings you off-policy RL training" (2025).
    """
    return weight_N.clamp(low, high)


def mask(weight_N: Tensor, *, low: float, high: float) -> Tensor:
    """Weights set to 0 outside [low, high]: masked importance sampling, MIS; by token also called IcePop.

    Source: Liu et al., "When speed kills stability" (2025); IcePop, in Ring-1T, arXiv:2510.18855.

    >>> mask(torch.tensor([0.1, 1.0, 9.0]), low=0.5, high=5.0)
    tensor([0., 1., 0.])
    """
    return torch.where(outside(weight_N, low=low, high=high), 0.0, weight_N)


def outside(weight_N: Tensor, *, low: float, high: float) -> Tensor:
    """Where a bound acts, [N] of bool."""
    return (weight_N < low) | (weight_N > high)


def _log_weights(old_N: Tensor, behaviour_N: Tensor) -> Tensor:
    return (old_N - behaviour_N).detach().nan_to_num(nan=0.0)
