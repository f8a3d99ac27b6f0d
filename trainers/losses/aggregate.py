"""Averages: one number from one loss per token.

Denominators are given, never counted from the tokens at hand, because these may be a cut of the update: the
gradient is then the same however the update was cut, and on however many machines.
"""

from __future__ import annotations

from torch import Tensor


def token_mean(loss_N: Tensor, *, num_tokens: float) -> Tensor:
    """sum(l) / tokens: every token weighs the same, so long episodes weigh more.

    Source: DAPO, arXiv:2503.14476 eq. 8.
    """
    return loss_N.sum() / max(num_tokens, 1)


def seq_mean_token_mean(loss_N: Tensor, length_N: Tensor, *, num_episodes: float) -> Tensor:
    """Mean over episodes of the mean over their tokens: every episode weighs the same.

    Args:
        loss_N: One loss per token.
        length_N: Trained tokens of each token's episode, in the whole update.
        num_episodes: Episodes in the whole update.

    Source: GRPO, arXiv:2402.03300 eq. 3.
    """
    return (loss_N / length_N).sum() / max(num_episodes, 1)


def seq_mean_token_sum(loss_N: Tensor, *, num_episodes: float) -> Tensor:
    """Mean over episodes of the sum over their tokens, as in REINFORCE."""
    return loss_N.sum() / max(num_episodes, 1)


def const_norm(loss_N: Tensor, *, num_episodes: float, max_length: int) -> Tensor:
    """sum(l) / (episodes x max_length): no weight depends on a length.

    Source: Dr. GRPO, arXiv:2503.20783 sec. 3.2; max_length is given, never the padded width.
    """
    return loss_N.sum() / (max(num_episodes, 1) * max_length)
