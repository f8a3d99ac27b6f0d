"""The environment contract: what the rollout sees of any environment.

A user writes a `gymnasium.Env` (see `agentrl.toolenv.ToolEnv` for the short form). `agentrl.adapter` turns
it into
an `Environment`: frozen results, asynchronous calls, named failures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from agentrl.errors import InfrastructureError
from agentrl.message import Action, Call, Part, plain_text
from agentrl.task import Task
from agentrl.toolkit import ToolSpec


class ForkUnsupported(InfrastructureError):
    """The environment can neither copy itself nor be replayed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What the model is shown at one point."""

    parts: tuple[Part, ...] = ()

    @property
    def text(self) -> str:
        """The words alone."""
        return plain_text(self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """How one call went: `valid` if it reached its tool, `ok` if the tool gave no `ToolError`."""

    call: Call
    valid: bool
    ok: bool
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What one action brought about: the 5-tuple of Gymnasium, typed."""

    observation: Observation
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    correct: bool | None = None
    """Whether the task is solved, apart from the shaped reward; None while open or where nobody can say."""
    reward_parts: Mapping[str, float] = field(default_factory=dict)
    calls: tuple[CallRecord, ...] = ()

    @property
    def done(self) -> bool:
        """Whether the episode is over."""
        return self.terminated or self.truncated


class Environment(Protocol):
    """One running episode at a time; `start` may be called again after the end."""

    @property
    def tools(self) -> tuple[ToolSpec, ...]:
        """The tools that the model may call; empty where it answers in plain text."""
        ...

    @property
    def system(self) -> str:
        """What the model is told before any task; '' for nothing."""
        ...

    async def start(self, task: Task) -> Observation:
        """Begin the task's episode; the observation is the task as the model reads it."""
        ...

    async def act(self, action: Action) -> StepResult:
        """Take one action.

        Raises:
            InfrastructureError: The environment failed for a reason outside the action.
        """
        ...

    async def fork(self) -> Environment:
        """Give an equal and afterwards independent copy of the running episode.

        Raises:
            ForkUnsupported: Neither a native copy nor a replay is possible.
        """
        ...

    async def close(self) -> None:
        """Release everything, also while `act` hangs, which then ends; may be called twice."""
        ...
