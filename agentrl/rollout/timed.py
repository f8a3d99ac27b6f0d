"""Deadlines for whoever waits for an environment: each says which episode, turn and tool it was."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from agentrl.aio import bounded
from agentrl.environment import Environment, Observation, StepResult
from agentrl.errors import DeadlineError
from agentrl.message import Action
from agentrl.rollout.protocol import Limits
from agentrl.rollout.watchdog import Watchdog
from agentrl.task import Task

Result = TypeVar("Result")
STARTING = "the environment's start"


@dataclass(slots=True, kw_only=True)
class Timed:
    """Plays one episode in an environment without a model, within the deadlines of a rollout."""

    env: Environment
    id: str
    limits: Limits = field(default_factory=Limits)
    watchdog: Watchdog = field(default_factory=Watchdog)
    """One for all episodes that run side by side: it says one line for all."""
    turn: int = 0
    doing: str = STARTING

    @property
    def place(self) -> str:
        """Where it stands, in words."""
        return place_of(self.id, self.turn, self.doing)

    async def start(self, task: Task) -> Observation:
        """Begin the task's episode.

        Raises:
            DeadlineError: It took longer than a turn may.
        """
        self.turn, self.doing = 0, STARTING
        return await self._within(self.env.start(task))

    async def act(self, action: Action) -> StepResult:
        """Take one action.

        Raises:
            DeadlineError: It took longer than a turn may.
        """
        self.doing = acting(action)
        result = await self._within(self.env.act(action))
        self.turn += 1
        return result

    async def _within(self, awaitable: Awaitable[Result]) -> Result:
        seconds, used = self.limits.turn_seconds, lambda: cpu_seconds_of(self.env)
        return await answered(awaitable, seconds, self.watchdog, lambda: self.place, used=used)


def place_of(id: str, turn: int, doing: str) -> str:
    """Say where an episode stands.

    >>> place_of("0-2-t/1", 3, "tool 'python'")
    "episode 0-2-t/1, turn 3, tool 'python'"
    """
    return f"episode {id}, turn {turn}, {doing}"


def acting(action: Action) -> str:
    """Say what an action waits for.

    >>> from agentrl.message import call
    >>> acting(call("python", code="1"))
    "tool 'python'"
    """
    return "tool " + ", ".join(repr(c.name) for c in action.calls) if action.calls else "the environment"


def cpu_seconds_of(env: Environment) -> float:
    """Processor time of an environment's latest call; 0 where it does not say."""
    return float(getattr(env, "cpu_seconds", 0.0))


async def answered(
    awaitable: Awaitable[Result],
    seconds: float,
    watchdog: Watchdog,
    place: Callable[[], str],
    *,
    used: Callable[[], float],
) -> Result:
    """Wait for an environment, but not for ever.

    Raises:
        DeadlineError: Names the place that it waited at.
    """
    with watchdog.watch(place, seconds, used=used) as timer:
        try:
            return await bounded(awaitable, timer)
        except TimeoutError as error:
            if not timer.expired():
                raise
            raise DeadlineError(f"{place()}: no answer within {seconds:g} s") from error
