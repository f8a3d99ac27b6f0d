"""How much better than expected: from rewards to one advantage per token."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from agentrl.errors import ConfigError
from agentrl.trainers.batch import TrainBatch
from agentrl.trainers.losses import advantage
from agentrl.trainers.losses.advantage import Singleton
from agentrl.trainers.losses.returns import at_last_token, returns_to_go, whiten
from agentrl.trainers.parts import Advantage, StepContext
from agentrl.trainers.standard.token_rewards import TokenReward, episode_rewards, reads_of, token_sum
from agentrl.trainers.standard.turns import turn_ends, turn_rewards, turn_values

Placement = Literal["last", "turn"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupAdvantage:
    """Advantage: reward against the mean of its group, in units of the group's deviation if `normalise`."""

    normalise: bool = True
    singleton: Singleton = "zero"
    token_rewards: tuple[TokenReward, ...] = ()

    @property
    def reads(self) -> frozenset[str]:
        return reads_of(self.token_rewards)

    def __call__(self, batch: TrainBatch, context: StepContext) -> Tensor:
        estimate = advantage.grpo if self.normalise else advantage.dr_grpo
        reward_E = episode_rewards(batch, context, self.token_rewards)
        return batch.spread(estimate(reward_E, batch.group_E, singleton=self.singleton))


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveOneOut:
    """Advantage: reward less the mean of the other episodes of its group."""

    singleton: Singleton = "zero"
    token_rewards: tuple[TokenReward, ...] = ()

    @property
    def reads(self) -> frozenset[str]:
        return reads_of(self.token_rewards)

    def __call__(self, batch: TrainBatch, context: StepContext) -> Tensor:
        reward_E = episode_rewards(batch, context, self.token_rewards)
        return batch.spread(advantage.rloo(reward_E, batch.group_E, singleton=self.singleton))


@dataclass(frozen=True, slots=True, kw_only=True)
class Whitened:
    """Advantage: returns to go, token by token, whitened over the whole batch; no group is needed.

    With `baseline="group"` an episode's reward is first compared with its group's mean and given to each of
    its tokens, as in REINFORCE++-baseline.
    """

    baseline: Literal["none", "group"] = "none"
    discount: float = 1.0
    """Of a later reward, per trained token."""
    placement: Placement = "last"
    """`last`: an episode's reward stands at its last token; `turn`: each turn's at that turn's last token."""
    token_rewards: tuple[TokenReward, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.discount <= 1:
            raise ConfigError(f"discount={self.discount}: need a value in [0, 1]")
        if self.placement not in ("last", "turn"):
            raise ConfigError(f"placement={self.placement!r}: need 'last' or 'turn'")
        if self.baseline not in ("none", "group"):
            raise ConfigError(f"baseline={self.baseline!r}: need 'none' or 'group'")

    @property
    def reads(self) -> frozenset[str]:
        return reads_of(self.token_rewards)

    def __call__(self, batch: TrainBatch, context: StepContext) -> Tensor:
        if self.baseline == "group":
            reward_E = episode_rewards(batch, context, self.token_rewards)
            value_N = batch.spread(advantage.dr_grpo(reward_E, batch.group_E, singleton="raw"))
        else:
            reward_N = self._placed(batch) + token_sum(batch, context, self.token_rewards)
            value_N = returns_to_go(reward_N, batch.episode_N, discount=self.discount)
        return whiten(value_N, comm=context.comm)

    def _placed(self, batch: TrainBatch) -> Tensor:
        """Every reward at the token that earned it, [N]; what no turn accounts for at the last one."""
        if self.placement == "last":
            return at_last_token(batch.reward_E, batch.episode_N)
        reward_N = turn_rewards(batch) * turn_ends(batch)
        placed_E = torch.zeros_like(batch.reward_E).index_add(0, batch.episode_N, reward_N)
        return reward_N + at_last_token(batch.reward_E - placed_E, batch.episode_N)


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnAdvantage:
    """Advantage: that of the whole episode, and `weight` times that of each turn among those of its group.

    A turn is worth its reward and, with `discount`, those of later turns; it is compared with the same turn
    of the other episodes of its group that have one.
    """

    outcome: Advantage = field(default_factory=GroupAdvantage)
    weight: float
    discount: float = 0.0
    """Of the next turn's worth."""
    normalise: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise ConfigError(f"turn_weight={self.weight}: need 0 or more, and finite")
        if not 0 <= self.discount <= 1:
            raise ConfigError(f"turn_discount={self.discount}: need a value in [0, 1]")

    @property
    def reads(self) -> frozenset[str]:
        return frozenset(getattr(self.outcome, "reads", ()))

    def __call__(self, batch: TrainBatch, context: StepContext) -> Tensor:
        value_U, group_U, unit_N = turn_values(batch, discount=self.discount)
        estimate = advantage.grpo if self.normalise else advantage.dr_grpo
        turn_N = estimate(value_U, group_U)[unit_N]
        return self.outcome(batch, context) + self.weight * turn_N
