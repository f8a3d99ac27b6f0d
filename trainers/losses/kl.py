"""Estimators of the divergence from a reference model, token by token; x = log pi_ref - log pi.

Source: Schulman, "Approximating KL divergence" (2020), joschu.net/blog/kl-approx.html.
"""

from __future__ import annotations

from torch import Tensor


def k1(logp_N: Tensor, reference_N: Tensor) -> Tensor:
    """-x: unbiased, of either sign; as a loss its gradient is that of log pi, whatever the reference."""
    return logp_N - reference_N


def k2(logp_N: Tensor, reference_N: Tensor) -> Tensor:
    """x^2 / 2: biased, never negative; its gradient is that of the true divergence."""
    return (reference_N - logp_N).square() / 2


def k3(logp_N: Tensor, reference_N: Tensor) -> Tensor:
    """exp(x) - x - 1: unbiased, never negative; the customary choice in GRPO."""
    x_N = reference_N - logp_N
    return x_N.exp() - x_N - 1
