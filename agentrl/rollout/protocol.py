"""The rollout contract: work goes in, finished groups come out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agentrl.engine.protocol import Sampling
from agentrl.episode import Group
from agentrl.errors import ConfigError
from agentrl.task import Task

DEFAULT_TURNS = 64
"""Turns of an environment where neither it nor the caller names a limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What ends an episode; the two deadlines are failures of the infrastructure, the rest are outcomes."""

    max_turns: int | None = None
    """None: what the environment names, else 64."""
    max_tokens_per_turn: int = 128
    max_context: int | None = None
    """Tokens of one context; None: what the engine can hold."""
    turn_seconds: float = 60.0
    """An `act` that takes longer is a failure of class `timeout`: limits of the model's own code are
    shorter.
    """
    episode_seconds: float = 600.0

    def __post_init__(self) -> None:
        for name in ("max_turns", "max_tokens_per_turn", "turn_seconds", "episode_seconds"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"{name}={getattr(self, name)}: need more than 0")

    def turns_of(self, env: object) -> int:
        """Give how many turns an episode of an environment may have."""
        return self.max_turns or getattr(env, "max_turns", None) or DEFAULT_TURNS


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkItem:
    """One task to be attempted `size` times; it pickles."""

    task: Task
    group_id: str
    size: int
    seed: int
    """Every random choice of the group follows from it."""
    sampling: Sampling = field(default_factory=Sampling)


class RolloutStrategy(Protocol):
    """How the attempts of a group are made: independently, as a tree, with guidance; strategies nest."""

    def collect(self, work: Sequence[WorkItem]) -> AsyncIterator[Group]:
        """Give each group as soon as it is finished; closing the iterator cancels what still runs."""
        ...
