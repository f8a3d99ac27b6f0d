"""Advantages from the rewards of a group."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from agentrl.errors import ConfigError

Singleton = Literal["zero", "raw"]


def group_mean(reward_E: Tensor, group_E: Tensor) -> Tensor:
    """Mean reward of each episode's group, [E].

    >>> group_mean(torch.tensor([1.0, 0.0, 5.0]), torch.tensor([0, 0, 1]))
    tensor([0.5000, 0.5000, 5.0000])
    """
    size_E = group_size(group_E).to(reward_E.dtype)
    return _group_sum(reward_E, group_E) / size_E


def group_size(group_E: Tensor) -> Tensor:
    """Number of episodes in each episode's group, [E]."""
    return torch.bincount(group_E)[group_E] if len(group_E) else group_E


def group_is_flat(reward_E: Tensor, group_E: Tensor) -> Tensor:
    """Whether all rewards of an episode's group are equal, [E] of bool; such a group cannot teach.

    The rewards are compared: (r - mean) / (std + 1e-6) of eight rewards of 0.7 is 0.056 in
    float32.
    """
    if not len(group_E):
        return torch.zeros(0, dtype=torch.bool)
    low_G = reward_E.new_zeros(int(group_E.max()) + 1).scatter_reduce(
        0, group_E, reward_E, "amin", include_self=False
    )
    high_G = torch.zeros_like(low_G).scatter_reduce(0, group_E, reward_E, "amax", include_self=False)
    return (low_G == high_G)[group_E]


def dr_grpo(reward_E: Tensor, group_E: Tensor, *, singleton: Singleton = "zero") -> Tensor:
    """A_i = r_i - mean_g: how much better than its group, in units of reward.

    Args:
        reward_E, group_E: Reward of each episode and the number of its group.
        singleton: Advantage of an episode that is alone in its group: 0, or the reward itself.

    Source: Dr. GRPO, arXiv:2503.20783 sec. 3.2.
    """
    exact_E = reward_E.double()
    advantage_E = (exact_E - group_mean(exact_E, group_E)).masked_fill(group_is_flat(reward_E, group_E), 0.0)
    return _with_singletons(advantage_E, exact_E, group_E, singleton).to(reward_E.dtype)


def rloo(reward_E: Tensor, group_E: Tensor, *, singleton: Singleton = "zero") -> Tensor:
    """A_i = r_i - mean of the others = (r_i - mean_g) G / (G - 1): a baseline without the episode.

    Args:
        reward_E, group_E: Reward of each episode and the number of its group.
        singleton: Advantage of an episode that is alone in its group: 0, or the reward itself.

    Source: Back to Basics, arXiv:2402.14740 sec. 2.2.

    >>> rloo(torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.tensor([0, 0, 0, 0]))
    tensor([ 1.0000, -0.3333, -0.3333, -0.3333])
    """
    exact_E, size_E = reward_E.double(), group_size(group_E).double()
    factor_E = size_E / (size_E - 1).clamp(min=1)
    advantage_E = dr_grpo(exact_E, group_E) * factor_E
    return _with_singletons(advantage_E, exact_E, group_E, singleton).to(reward_E.dtype)


def grpo(
    reward_E: Tensor, group_E: Tensor, *, singleton: Singleton = "zero", epsilon: float = 1e-6
) -> Tensor:
    """A_i = (r_i - mean_g) / (std_g + epsilon): the z-score in the group, with the unbiased deviation.

    Args:
        reward_E, group_E: Reward of each episode and the number of its group.
        singleton: An episode that is alone in its group: 0, or mean 0 and deviation 1, so r / (1 + epsilon).
        epsilon: Added to the deviation; 1e-4 reproduces TRL.

    Source: DeepSeekMath, arXiv:2402.03300 sec. 4.1.2.

    >>> grpo(torch.tensor([1.0, 0.0, 0.0, 1.0]), torch.tensor([0, 0, 0, 0]))
    tensor([ 0.8660, -0.8660, -0.8660,  0.8660])
    """
    exact_E = reward_E.double()
    centred_E = (exact_E - group_mean(exact_E, group_E)).masked_fill(group_is_flat(reward_E, group_E), 0.0)
    freedom_E = (group_size(group_E) - 1).clamp(min=1)
    std_E = (_group_sum(centred_E.square(), group_E) / freedom_E).sqrt()
    advantage_E = centred_E / (std_E + epsilon)
    return _with_singletons(advantage_E, exact_E / (1 + epsilon), group_E, singleton).to(reward_E.dtype)


def _group_sum(value_E: Tensor, group_E: Tensor) -> Tensor:
    if not len(group_E):
        return value_E
    return value_E.new_zeros(int(group_E.max()) + 1).index_add(0, group_E, value_E)[group_E]


def _with_singletons(advantage_E: Tensor, raw_E: Tensor, group_E: Tensor, singleton: Singleton) -> Tensor:
    if singleton == "zero":
        return advantage_E
    if singleton != "raw":
        raise ConfigError(f"singleton={singleton!r}: need 'zero' or 'raw'")
    return torch.where(group_size(group_E) == 1, raw_E, advantage_E)
