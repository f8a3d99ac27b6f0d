"""Ratios of whole episodes, in logarithms, given to each of their tokens."""

from __future__ import annotations

from torch import Tensor

from agentrl.trainers.losses.returns import episode_sum


def geometric_mean(
    logp_N: Tensor, old_N: Tensor, episode_N: Tensor, length_N: Tensor, *, num_episodes: int
) -> Tensor:
    """Logarithm of s_i = exp(mean_t log rho_it) at each token, with the gradient of its own log pi.

    The value is that of GSPO; the gradient, sg(s_i) grad log pi_t, is that of its token form, which equals
    the other wherever an episode has one advantage and its tokens are averaged.

    Args:
        logp_N, old_N: Log-probabilities in nats; the first attached to the graph.
        episode_N, length_N: Episode of each token, and how many trained tokens that has in all.
        num_episodes: One more than the largest episode.

    Source: GSPO, arXiv:2507.18071 eq. 7 and sec. 4.3.
    """
    mean_N = (logp_N - old_N).detach() / length_N
    log_s_E = episode_sum(mean_N, episode_N, num_episodes=num_episodes)
    return log_s_E[episode_N] + (logp_N - logp_N.detach())


def product(logp_N: Tensor, old_N: Tensor, episode_N: Tensor, *, num_episodes: int) -> Tensor:
    """Sum over t of log rho_it at each token of episode i, with the gradient of the whole sum.

    Averaged over an episode's tokens, a loss of it is one loss per episode: the episode is the action.

    Source: RLOO, arXiv:2402.14740 sec. 2.1; as in TRL's RLOOTrainer.
    """
    return episode_sum(logp_N - old_N, episode_N, num_episodes=num_episodes)[episode_N]
