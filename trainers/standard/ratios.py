"""Ratios of new to old probability, in logarithms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from agentrl.trainers.losses import ratio
from agentrl.trainers.parts import Scope, Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRatio:
    """Ratio: log pi - log pi_old of each token, clamped to +-`limit` (inf: never) and counted there."""

    limit: float = 20.0
    reads: ClassVar[frozenset[str]] = frozenset({"old"})

    def __call__(self, tokens: Tokens) -> Tensor:
        return limited(tokens.logp_N - tokens["old"], self.limit, tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class GeometricMeanRatio:
    """Ratio: the mean of log pi - log pi_old over the episode, with each token's own gradient; GSPO."""

    limit: float = 10.0
    reads: ClassVar[frozenset[str]] = frozenset({"old"})
    scope: ClassVar[Scope] = "episode"

    def __call__(self, tokens: Tokens) -> Tensor:
        log_s_N = ratio.geometric_mean(
            tokens.logp_N,
            tokens["old"],
            tokens.episode_N,
            tokens.length_N,
            num_episodes=len(tokens.batch.reward_E),
        )
        return limited(log_s_N, self.limit, tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductRatio:
    """Ratio: the sum of log pi - log pi_old over the episode, which is one action; RLOO."""

    limit: float = 10.0
    reads: ClassVar[frozenset[str]] = frozenset({"old"})
    scope: ClassVar[Scope] = "episode"

    def __call__(self, tokens: Tokens) -> Tensor:
        log_ratio_N = ratio.product(
            tokens.logp_N, tokens["old"], tokens.episode_N, num_episodes=len(tokens.batch.reward_E)
        )
        return limited(log_ratio_N, self.limit, tokens)


def limited(log_ratio_N: Tensor, limit: float, tokens: Tokens) -> Tensor:
    """Clamp to +-`limit` and count where that acts."""
    tokens.record("ratio_limited", (log_ratio_N.abs() > limit).sum())
    return log_ratio_N.clamp(-limit, limit)
