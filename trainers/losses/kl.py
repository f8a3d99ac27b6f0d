"""Estimators of the divergence from a reference model, token by token; x = log pi_ref - log pi.

Source: Schulman, "Approximating KL divergence" (2020), joschu.net/blog/kl-approx.html. As a loss, k2 has
the gradient of the true divergence at the weights that sampled, k1 that of log pi whatever the reference
(its mean is 0), and k3 that of the reverse one; hence the two combinations below.
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
    return x_N.expm1() - x_N  # exp() - 1 loses what is left of a small x, and its sign


def with_gradient_of_k2(value_N: Tensor, logp_N: Tensor, reference_N: Tensor) -> Tensor:
    """Give the value of one estimator the gradient of k2: `k1+` and `k3+` of verl."""
    right_N = k2(logp_N, reference_N)
    return value_N.detach() + right_N - right_N.detach()


def weighted(value_N: Tensor, logp_N: Tensor, old_N: Tensor) -> Tensor:
    """Ratio of new to old probability, attached, times an estimator: for tokens that the old weights drew.

    At a ratio of 1, of k3, this has the value of k3 and the gradient of k2.

    Source: TRL's `use_bias_correction_kl`; DeepSeek-V3.2, arXiv:2512.02556.
    """
    return (logp_N - old_N).exp() * value_N
