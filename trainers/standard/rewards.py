"""Where rewards come from, and what changes them before they are compared."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from agentrl.episode import Group, ScoredEpisode, ScoredGroup
from agentrl.errors import ConfigError, RewardError
from agentrl.trainers.losses.overlong import overlong_penalty
from agentrl.trainers.parts import StepContext

LARGEST = 1e15
"""Largest size of a reward: the squares of advantages and gradients in its units still add up in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentReward:
    """Score: what the environment gave, up to `LARGEST` either way; failed episodes are left out."""

    def __call__(self, group: Group, context: StepContext) -> ScoredGroup:
        for episode in group.whole:
            if not math.isfinite(episode.reward):
                raise RewardError(f"episode {episode.id}: reward {episode.reward} is no finite number")
            if abs(episode.reward) > LARGEST:
                raise RewardError(
                    f"episode {episode.id}: reward {episode.reward} is too large to train on: need at most"
                    f" {LARGEST:g} either way"
                )
        scored = tuple(ScoredEpisode(episode=e, reward=e.reward) for e in group.whole)
        failed = len(group.episodes) - len(scored)
        return ScoredGroup(id=group.id, episodes=scored, dropped={"failed": failed} if failed else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class PenaliseTruncated:
    """Reward transform: an episode that a limit ended loses `penalty`."""

    penalty: float

    def __post_init__(self) -> None:
        if not abs(self.penalty) <= LARGEST:
            raise ConfigError(f"truncation_penalty={self.penalty}: need at most {LARGEST:g} either way")

    def __call__(self, group: ScoredGroup, context: StepContext) -> ScoredGroup:
        scored = tuple(
            replace(e, reward=e.reward - self.penalty) if e.episode.truncated else e for e in group.episodes
        )
        return replace(group, episodes=scored)


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlongPenalty:
    """Reward transform: what an episode's sampled tokens cost beyond `max_length` - `cache`, up to 1."""

    max_length: int
    cache: int

    def __post_init__(self) -> None:
        if not 0 < self.cache <= self.max_length:
            raise ConfigError(
                f"overlong_cache={self.cache}: need 1 to overlong_length={self.max_length} tokens"
            )

    def __call__(self, group: ScoredGroup, context: StepContext) -> ScoredGroup:
        scored = tuple(replace(e, reward=e.reward + self.penalty(e)) for e in group.episodes)
        context.record("overlong", sum(self.penalty(e) < 0 for e in group.episodes))
        return replace(group, episodes=scored)

    def penalty(self, scored: ScoredEpisode) -> float:
        """Give the penalty of an episode, -1 to 0."""
        return overlong_penalty(scored.episode.num_sampled, max_length=self.max_length, cache=self.cache)
