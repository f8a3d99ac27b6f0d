"""The parts that GRPO and its nearest relatives are made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from torch import Tensor

from agentrl.episode import Group, ScoredEpisode, ScoredGroup
from agentrl.errors import ConfigError, RewardError
from agentrl.trainers.batch import TrainBatch
from agentrl.trainers.losses import advantage, aggregate, kl, surrogate
from agentrl.trainers.parts import Bound, StepContext, Tokens

Estimator = Literal["k1", "k2", "k3"]
ESTIMATORS: dict[Estimator, Callable[[Tensor, Tensor], Tensor]] = {"k1": kl.k1, "k2": kl.k2, "k3": kl.k3}


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentReward:
    """Score: what the environment gave; failed episodes are left out."""

    def __call__(self, group: Group, context: StepContext) -> ScoredGroup:
        for episode in group.whole:
            if not math.isfinite(episode.reward):
                raise RewardError(f"episode {episode.id}: reward {episode.reward} is no finite number")
        scored = tuple(ScoredEpisode(episode=e, reward=e.reward) for e in group.whole)
        failed = len(group.episodes) - len(scored)
        return ScoredGroup(id=group.id, episodes=scored, dropped={"failed": failed} if failed else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class PenaliseTruncated:
    """Reward transform: an episode that a limit ended loses `penalty`."""

    penalty: float

    def __call__(self, group: ScoredGroup, context: StepContext) -> ScoredGroup:
        scored = tuple(
            replace(e, reward=e.reward - self.penalty) if e.episode.truncated else e for e in group.episodes
        )
        return replace(group, episodes=scored)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupAdvantage:
    """Advantage: reward against the mean of its group, in units of the group's deviation if `normalise`."""

    normalise: bool = True
    singleton: advantage.Singleton = "zero"

    def __call__(self, batch: TrainBatch, context: StepContext) -> Tensor:
        estimate = advantage.grpo if self.normalise else advantage.dr_grpo
        return batch.spread(estimate(batch.reward_E, batch.group_E, singleton=self.singleton))


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRatio:
    """Ratio: log pi - log pi_old of each token, clamped to +-`limit` (inf: never) and counted there."""

    limit: float = 20.0
    reads: ClassVar[frozenset[str]] = frozenset({"old"})

    def __call__(self, tokens: Tokens) -> Tensor:
        log_ratio_N = tokens.logp_N - tokens["old"]
        tokens.record("ratio_limited", (log_ratio_N.abs() > self.limit).sum())
        return log_ratio_N.clamp(-self.limit, self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedBounds:
    """Bounds: [1 - low, 1 + high]."""

    low: float = 0.2
    high: float = 0.28

    def __post_init__(self) -> None:
        if not 0 <= self.low <= 1:
            raise ConfigError(f"clip_low={self.low}: need a value in [0, 1]")
        if not self.high >= 0:
            raise ConfigError(f"clip_high={self.high}: need 0 or more")

    def __call__(self, tokens: Tokens) -> tuple[Bound, Bound]:
        return 1 - self.low, 1 + self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class PpoClip:
    """Surrogate: PPO's clipped objective."""

    def __call__(self, log_ratio_N: Tensor, bounds: tuple[Bound, Bound], tokens: Tokens) -> Tensor:
        return surrogate.ppo_clip(log_ratio_N, tokens.advantage_N, low=bounds[0], high=bounds[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class KlPenalty:
    """Regulariser: `weight` times an estimate of the divergence from the reference model."""

    weight: float
    estimator: Estimator = "k3"
    reads: ClassVar[frozenset[str]] = frozenset({"reference"})

    def __call__(self, tokens: Tokens) -> tuple[Tensor, Tensor | None]:
        divergence_N = ESTIMATORS[self.estimator](tokens.logp_N, tokens["reference"])
        tokens.record("kl", divergence_N.sum() / max(tokens.totals.num_tokens, 1))
        return self.weight * divergence_N, None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenMean:
    """Aggregate: every token weighs the same."""

    def __call__(self, loss_N: Tensor, tokens: Tokens) -> Tensor:
        return aggregate.token_mean(loss_N, num_tokens=tokens.totals.num_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeMean:
    """Aggregate: mean over episodes of the mean, sum, or sum / `max_length` over their tokens."""

    within: Literal["token_mean", "token_sum", "const"] = "token_mean"
    max_length: int | None = None
    count_empty_rows: bool = False
    """Whether episodes without a trained token count in the mean, as in TRL."""

    def __post_init__(self) -> None:
        if (self.within == "const") != (self.max_length is not None):
            raise ConfigError(f"max_length={self.max_length} with within={self.within!r}: they go together")

    def __call__(self, loss_N: Tensor, tokens: Tokens) -> Tensor:
        totals = tokens.totals
        count = totals.num_episodes + (totals.num_empty if self.count_empty_rows else 0)
        if self.within == "token_mean":
            return aggregate.seq_mean_token_mean(loss_N, tokens.length_N, num_episodes=count)
        if self.max_length is None:
            return aggregate.seq_mean_token_sum(loss_N, num_episodes=count)
        return aggregate.const_norm(loss_N, num_episodes=count, max_length=self.max_length)
