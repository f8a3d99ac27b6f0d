"""Surrogates: one loss per token from the ratio of new to old probability and the advantage."""

from __future__ import annotations

import torch
from torch import Tensor


def ppo_clip(
    log_ratio_N: Tensor,
    advantage_N: Tensor,
    *,
    low: Tensor | float,
    high: Tensor | float,
    dual_clip: float | None = None,
) -> Tensor:
    """max(-A rho, -A clip(rho, low, high)), with rho = exp(log_ratio): one loss per token.

    Args:
        log_ratio_N: log pi_new - log pi_old in nats, attached to the graph.
        advantage_N: Advantage of each token's episode.
        low, high: The ratio earns nothing outside [low, high]; 1 - 0.2 and 1 + 0.2 in PPO.
        dual_clip: Where A < 0 the loss is at most -A times this, above `high`; None: no such bound.

    Raises:
        ValueError: Shapes differ.

    Source: arXiv:1707.06347 eq. 7; a wider upper bound is DAPO's clip-higher, arXiv:2503.14476 sec. 3.1; the
    dual clip is arXiv:1912.09729 eq. 5, and for any value above `high` also what TRL calls `delta`.
    """
    _same_shape(log_ratio_N, advantage_N)
    ratio_N = log_ratio_N.exp()
    bounds = [torch.as_tensor(bound, dtype=ratio_N.dtype, device=ratio_N.device) for bound in (low, high)]
    loss_N = -torch.minimum(ratio_N * advantage_N, ratio_N.clamp(*bounds) * advantage_N)
    if dual_clip is None:
        return loss_N
    return torch.where(advantage_N < 0, torch.minimum(loss_N, -dual_clip * advantage_N), loss_N)


def is_clipped(
    log_ratio_N: Tensor, advantage_N: Tensor, *, low: Tensor | float, high: Tensor | float
) -> Tensor:
    """Whether the bound takes a token's gradient away, [N] of bool."""
    ratio_N = log_ratio_N.detach().exp()
    return ((advantage_N > 0) & (ratio_N > high)) | ((advantage_N < 0) & (ratio_N < low))


def is_dual_clipped(log_ratio_N: Tensor, advantage_N: Tensor, *, dual_clip: float) -> Tensor:
    """Whether the dual clip takes a token's gradient away, [N] of bool."""
    return (advantage_N < 0) & (log_ratio_N.detach().exp() > dual_clip)


def cispo(
    log_ratio_N: Tensor,
    logp_N: Tensor,
    advantage_N: Tensor,
    *,
    low: Tensor | float,
    high: Tensor | float,
) -> Tensor:
    """-sg(clip(rho, low, high)) A log pi: the ratio is a bounded weight and never takes a gradient away.

    Args:
        log_ratio_N: log pi_new - log pi_old in nats; its gradient is not used.
        logp_N: log pi_new in nats, attached to the graph.
        advantage_N: Advantage of each token's episode.
        low, high: Bounds of the weight.

    Raises:
        ValueError: Shapes differ.

    Source: MiniMax-M1, arXiv:2506.13585 eq. 4-5.
    """
    _same_shape(log_ratio_N, advantage_N)
    weight_N = log_ratio_N.detach().exp()
    bounds = [torch.as_tensor(bound, dtype=weight_N.dtype, device=weight_N.device) for bound in (low, high)]
    return -weight_N.clamp(*bounds) * advantage_N * logp_N


def sapo(
    log_ratio_N: Tensor, advantage_N: Tensor, *, temperature_positive: float, temperature_negative: float
) -> Tensor:
    """-A (4 / tau) sigmoid(tau (rho - 1)): a soft gate in the place of a clip; its gradient never stops.

    At rho = 1 the value is -2 A / tau and the gradient that of -A rho; away from it the gradient fades like
    sech^2(tau (rho - 1) / 2).

    Args:
        log_ratio_N: log pi_new - log pi_old in nats, attached to the graph.
        advantage_N: Advantage of each token's episode.
        temperature_positive, temperature_negative: tau where A > 0, and elsewhere; larger fades faster.

    Raises:
        ValueError: Shapes differ.

    Source: SAPO, arXiv:2511.20347.
    """
    _same_shape(log_ratio_N, advantage_N)
    positive, negative = (advantage_N.new_tensor(t) for t in (temperature_positive, temperature_negative))
    tau_N = torch.where(advantage_N > 0, positive, negative)
    return -advantage_N * torch.sigmoid(tau_N * (log_ratio_N.exp() - 1)) * 4 / tau_N


def _same_shape(log_ratio_N: Tensor, advantage_N: Tensor) -> None:
    if log_ratio_N.shape != advantage_N.shape:
        raise ValueError(
            f"log_ratio {tuple(log_ratio_N.shape)}, advantage {tuple(advantage_N.shape)}: need one shape"
        )
