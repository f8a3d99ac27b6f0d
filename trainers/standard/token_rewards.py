"""Rewards of single tokens, which advantages add to those of episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from torch import Tensor

from agentrl.errors import ConfigError
from agentrl.trainers.batch import TrainBatch
from agentrl.trainers.losses import kl
from agentrl.trainers.losses.returns import episode_sum
from agentrl.trainers.parts import StepContext


class TokenReward(Protocol):
    """Gives every trained token a reward, [N]."""

    @property
    def reads(self) -> frozenset[str]: ...

    def __call__(self, batch: TrainBatch, context: StepContext, /) -> Tensor: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KlReward:
    """Token reward: -`weight` times an estimate of the divergence from the reference model."""

    weight: float
    estimator: Literal["k1", "k2", "k3"] = "k1"
    limit: float = 20.0
    """Largest |log pi_ref - log pi|."""
    reads: ClassVar[frozenset[str]] = frozenset({"old", "reference"})

    def __post_init__(self) -> None:
        if self.estimator not in ("k1", "k2", "k3"):
            raise ConfigError(
                f"kl_estimator={self.estimator!r} in the reward: its gradient is not used, so take"
                " 'k1', 'k2' or 'k3'"
            )

    def __call__(self, batch: TrainBatch, context: StepContext) -> Tensor:
        old_N, reference_N = batch.columns["old"].double(), batch.columns["reference"].double()
        context.record("kl_limited", int(((reference_N - old_N).abs() > self.limit).sum()))
        reference_N = reference_N.clamp(old_N - self.limit, old_N + self.limit)
        estimate = {"k1": kl.k1, "k2": kl.k2, "k3": kl.k3}[self.estimator]
        divergence_N = estimate(old_N, reference_N)
        context.record("kl", float(divergence_N.sum()) / max(batch.num_tokens, 1))
        return -self.weight * divergence_N


def reads_of(token_rewards: Sequence[TokenReward]) -> frozenset[str]:
    """Give the columns that some token rewards read."""
    return frozenset().union(*(part.reads for part in token_rewards))


def token_sum(batch: TrainBatch, context: StepContext, token_rewards: Sequence[TokenReward]) -> Tensor:
    """Give every token the sum of its rewards, [N]."""
    total_N = batch.reward_E.new_zeros(batch.num_tokens)
    for part in token_rewards:
        total_N = total_N + part(batch, context)
    return total_N


def episode_rewards(batch: TrainBatch, context: StepContext, token_rewards: Sequence[TokenReward]) -> Tensor:
    """Give every episode its reward and those of its tokens, [E]."""
    if not token_rewards:
        return batch.reward_E
    added_N = token_sum(batch, context, token_rewards)
    return batch.reward_E + episode_sum(added_N, batch.episode_N, num_episodes=len(batch.reward_E))
