"""Rewards that come token by token: what is still to come after each token, and whitening over a batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from agentrl.trainers.comm import Comm

ROUNDING = 1e-12
"""Distance from the mean, as a share of it, below which a float64 value is the mean itself."""


def episode_sum(value_N: Tensor, episode_N: Tensor, *, num_episodes: int) -> Tensor:
    """Sum of each episode's tokens, [E]; differentiable.

    >>> episode_sum(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 0, 2]), num_episodes=3)
    tensor([3., 0., 4.])
    """
    return value_N.new_zeros(num_episodes).index_add(0, episode_N, value_N)


def places_in_episode(episode_N: Tensor) -> Tensor:
    """Number of each token within its episode, counted from 0; an episode's tokens stand together.

    >>> places_in_episode(torch.tensor([0, 0, 0, 2, 2]))
    tensor([0, 1, 2, 0, 1])
    """
    count_E = torch.bincount(episode_N)
    return torch.arange(len(episode_N)) - (count_E.cumsum(0) - count_E)[episode_N]


def at_last_token(value_E: Tensor, episode_N: Tensor) -> Tensor:
    """Put each episode's value on the last of its trained tokens, [N].

    >>> at_last_token(torch.tensor([5.0, 7.0]), torch.tensor([0, 0, 1]))
    tensor([0., 5., 7.])
    """
    length_E = torch.bincount(episode_N, minlength=len(value_E))
    is_last_N = places_in_episode(episode_N) == length_E[episode_N] - 1
    return value_E[episode_N] * is_last_N


def returns_to_go(reward_N: Tensor, episode_N: Tensor, *, discount: float = 1.0) -> Tensor:
    """u_t = r_t + discount u_{t+1}, over the trained tokens of an episode in their order.

    What stands between them (observations, forced tokens) is passed over: it neither ends the sum nor
    discounts it, so a reward reaches every earlier turn.

    Source: REINFORCE++, arXiv:2501.03262; verl 0.9.1 carries the sum over masked spans in the same way.

    >>> returns_to_go(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0, 0, 1]), discount=0.5)
    tensor([0.5000, 1.0000, 2.0000])
    """
    if not len(reward_N):
        return reward_N
    place_N = places_in_episode(episode_N)
    table_ET = reward_N.new_zeros(int(episode_N.max()) + 1, int(place_N.max()) + 1)
    table_ET[episode_N, place_N] = reward_N
    for place in range(table_ET.shape[1] - 2, -1, -1):
        table_ET[:, place] += discount * table_ET[:, place + 1]
    return table_ET[episode_N, place_N]


def whiten(value_N: Tensor, *, comm: Comm, epsilon: float = 1e-8) -> Tensor:
    """(u - mean) / sqrt(var + epsilon) over all trained tokens of all processes; var is the unbiased one.

    Where all values are equal, or there is only one, the result is exactly 0: float64 values closer to the
    mean than rounding are the mean.

    Source: REINFORCE++, arXiv:2501.03262; verl `masked_whiten` (which refuses a single token).

    >>> from agentrl.trainers.comm import LocalComm
    >>> whiten(torch.tensor([1.0, 0.0]), comm=LocalComm())
    tensor([ 0.7071, -0.7071])
    """
    exact_N = value_N.double()
    count, total = comm.sum(torch.stack([exact_N.new_tensor(float(len(exact_N))), exact_N.sum()])).tolist()
    mean = total / max(count, 1.0)
    centred_N = exact_N - mean
    centred_N = centred_N.masked_fill(centred_N.abs() <= ROUNDING * abs(mean), 0.0)
    variance = float(comm.sum(centred_N.square().sum())) / max(count - 1, 1.0)
    whitened_N: Tensor = centred_N / math.sqrt(variance + epsilon)
    return whitened_N.to(value_N.dtype)
