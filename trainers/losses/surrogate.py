"""Surrogates: one loss per token from the ratio of new to old probability and the advantage."""

from __future__ import annotations

import torch
from torch import Tensor


def ppo_clip(
    log_ratio_N: Tensor, advantage_N: Tensor, *, low: Tensor | float, high: Tensor | float
) -> Tensor:
    """max(-A rho, -A clip(rho, low, high)), with rho = exp(log_ratio): one loss per token.

    Args:
        log_ratio_N: log pi_new - log pi_old in nats, attached to the graph.
        advantage_N: Advantage of each token's episode.
        low, high: The ratio earns nothing outside [low, high]; 1 - 0.2 and 1 + 0.2 in PPO.

    Raises:
        ValueError: Shapes differ.

    Source: arXiv:1707.06347 eq. 7; a wider upper bound is DAPO's clip-higher, arXiv:2503.14476 sec. 3.1.
    """
    if log_ratio_N.shape != advantage_N.shape:
        raise ValueError(
            f"log_ratio {tuple(log_ratio_N.shape)}, advantage {tuple(advantage_N.shape)}: need one shape"
        )
    ratio_N = log_ratio_N.exp()
    bounds = [torch.as_tensor(bound, dtype=ratio_N.dtype, device=ratio_N.device) for bound in (low, high)]
    return -torch.minimum(ratio_N * advantage_N, ratio_N.clamp(*bounds) * advantage_N)


def is_clipped(
    log_ratio_N: Tensor, advantage_N: Tensor, *, low: Tensor | float, high: Tensor | float
) -> Tensor:
    """Whether the bound takes a token's gradient away, [N] of bool."""
    ratio_N = log_ratio_N.detach().exp()
    return ((advantage_N > 0) & (ratio_N > high)) | ((advantage_N < 0) & (ratio_N < low))
