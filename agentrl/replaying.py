"""Plays a recorded episode's actions in its environment once more and finds where the two part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from agentrl.environment import Environment, StepResult
from agentrl.episode import Episode, Turn
from agentrl.inspection import describe_action
from agentrl.rollout.protocol import Limits
from agentrl.rollout.timed import Timed
from agentrl.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """The first thing that was otherwise than recorded."""

    turn: int | None
    """None: already the task's text."""
    action: str
    what: str
    recorded: Any
    now: Any

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON data."""
        return asdict(self)

    def __str__(self) -> str:
        where = "at the start" if self.turn is None else f"in turn {self.turn}, after {self.action}"
        return f"{where}: {self.what} was {self.recorded!r} and is {self.now!r}"


async def replay(
    env: Environment, task: Task, episode: Episode, *, limits: Limits | None = None
) -> Divergence | None:
    """Play the recorded actions; gives the first difference in what the environment answered, or None.

    Raises:
        InfrastructureError: The environment failed where it had not failed when it was recorded, or hangs.
    """
    timed = Timed(env=env, id=episode.id, limits=limits or Limits())
    first = await timed.start(task)
    if first != episode.first:
        return Divergence(turn=None, action="", what="the task", recorded=episode.first.text, now=first.text)
    for turn in episode.turns:
        result = await timed.act(turn.action)
        last = turn is episode.turns[-1]
        for what, recorded, now in facts(turn, result, episode, last=last):
            if recorded != now:
                action = describe_action(turn.action)
                return Divergence(turn=turn.index, action=action, what=what, recorded=recorded, now=now)
    return None


def facts(turn: Turn, result: StepResult, episode: Episode, *, last: bool) -> Iterator[tuple[str, Any, Any]]:
    """Give what is compared of a turn: its name, as recorded and as it is now."""
    yield "the observation", turn.observation.text, result.observation.text
    yield "its parts", turn.observation.parts, result.observation.parts
    yield "the reward", turn.reward, result.reward
    yield "the reward's parts", dict(turn.reward_parts), dict(result.reward_parts)
    calls = [[(c.call.name, c.valid, c.ok) for c in found.calls] for found in (turn, result)]
    yield "the outcome of the calls", calls[0], calls[1]
    if not last:
        yield "whether the episode is over", False, result.done
    elif episode.finish in ("terminated", "truncated"):
        yield "how the episode ends", episode.finish, ending(result)
        yield "correct", episode.correct, result.correct


def ending(result: StepResult) -> str:
    """Name how an episode stands.

    >>> from agentrl.environment import Observation
    >>> ending(StepResult(observation=Observation(), terminated=True))
    'terminated'
    """
    return "terminated" if result.terminated else "truncated" if result.truncated else "goes on"
