"""Playing episodes with a demonstrator in the model's place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agentrl.dialect.protocol import Dialect
from agentrl.environment import Environment, Observation, StepResult
from agentrl.episode import Context, Segment
from agentrl.errors import ConfigError, InfrastructureError
from agentrl.message import Action
from agentrl.registry import EnvSpec, Worker
from agentrl.rollout.closing import close_quietly
from agentrl.rollout.protocol import Limits
from agentrl.rollout.timed import Timed
from agentrl.rollout.watchdog import Watchdog
from agentrl.store.journal import Journal
from agentrl.task import Task

AT_ONCE = 16
"""Episodes that are played at the same time."""


class Demonstrator(Protocol):
    """Acts on what a model would read: the task's text, then one text per turn; one for each episode."""

    def __call__(self, observations: Sequence[str], /) -> Action:
        """Give the next action."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """One episode as it went."""

    task: Task
    first: Observation
    turns: tuple[tuple[Action, StepResult], ...]

    @property
    def correct(self) -> bool:
        """Whether the task was solved."""
        return bool(self.turns) and self.turns[-1][1].correct is True

    @property
    def actions(self) -> list[Action]:
        """What was done, turn by turn."""
        return [action for action, _ in self.turns]

    @property
    def observations(self) -> list[str]:
        """What was read before each action, turn by turn."""
        return [self.first.text, *(result.observation.text for _, result in self.turns[:-1])]


async def play(env: Timed, demonstrator: Demonstrator, task: Task, *, max_turns: int) -> Played:
    """Play one episode to its end, or to the limit of turns."""
    first = await env.start(task)
    observations = [first.text]
    turns: list[tuple[Action, StepResult]] = []
    while len(turns) < max_turns and not (turns and turns[-1][1].done):
        action = demonstrator(observations)
        result = await env.act(action)
        turns.append((action, result))
        observations.append(result.observation.text)
    return Played(task=task, first=first, turns=tuple(turns))


async def play_many(
    worker: Worker,
    make: Callable[[int], Demonstrator],
    tasks: Iterable[Task],
    *,
    tolerant: bool = False,
    journal: Journal | None = None,
    name: str = "",
    limits: Limits | None = None,
) -> list[Played]:
    """Play every task with a demonstrator of its own, `make(number)`; gives them in the tasks' order.

    Args:
        worker: Makes the environments.
        make: Gives the demonstrator of an episode.
        tasks: One episode each.
        tolerant: Leave out episodes in which the environment failed; some do on actions that make no sense.
        journal: Keeps what was played under `name`, so that it is not played again.
        limits: How long a turn may take, and the turns of an environment that names no limit itself.

    Raises:
        InfrastructureError: An environment failed or hung, unless `tolerant`.
    """
    tasks = list(tasks)
    if journal is not None and (kept := journal.kept(name)) is not None:
        return [Played(task=tasks[n], first=first, turns=turns) for n, first, turns in kept]
    free, limits, watchdog = asyncio.Semaphore(AT_ONCE), limits or Limits(), Watchdog()

    async def alone(number: int, task: Task) -> Played:
        env = worker.new()
        try:
            timed = Timed(env=env, id=task.id, limits=limits, watchdog=watchdog)
            allowed = env.max_turns or limits.turns_of(env)
            played = await play(timed, make(number), task, max_turns=allowed)
        finally:
            closing = await close_quietly(env)
        if closing is not None:
            raise closing
        return played

    async def one(number: int, task: Task) -> Played | None:
        async with free:
            try:
                return await alone(number, task)
            except InfrastructureError:
                if not tolerant:
                    raise
                return None

    played = await asyncio.gather(*(one(n, t) for n, t in enumerate(tasks)))
    if journal is not None:
        journal.keep(name, [(n, e.first, e.turns) for n, e in enumerate(played) if e is not None])
    return [episode for episode in played if episode is not None]


def expert_of(spec: EnvSpec) -> Callable[[int], Demonstrator]:
    """Give the environment's own expert, each time on a fresh instance that never saw a task.

    Raises:
        ConfigError: The environment has none, it raised something, or it gave what is neither an action nor
            text.
    """
    if not callable(spec.trait("expert")):
        raise ConfigError(
            f"{spec.name} has no expert(observations): model='tiny' learns from its demonstrations; "
            "write one, or give a checkpoint folder as the model"
        )

    def make(_: int) -> Demonstrator:
        expert = spec.make().expert

        def act(observations: Sequence[str]) -> Action:
            try:
                given = expert(list(observations))
            except Exception as error:
                raise ConfigError(
                    f"{spec.name}: its expert() raised {type(error).__name__}: {error}; it must act on the "
                    "observations alone: it is asked on an instance that never saw the task"
                ) from error
            return as_action(given, spec.name)

        return act

    return make


def as_action(given: Any, name: str) -> Action:
    """Read what an expert returned.

    >>> as_action("north", "Walk").text
    'north'

    Raises:
        ConfigError: It is neither an action nor text.
    """
    if isinstance(given, Action):
        return given
    if isinstance(given, str | int | float):
        return Action(text=str(given))
    raise ConfigError(f"{name}: expert() returned {type(given).__name__}: return call(…), answer(…) or text")


def context_of(played: Played, env: Environment, dialect: Dialect) -> Context:
    """Give the episode as the tokens that a model would have read and written."""
    segments = [Segment(kind="prompt", ids=dialect.prompt(env.system, env.tools, played.first.parts).ids)]
    for number, (action, result) in enumerate(played.turns):
        segments.append(Segment(kind="action", ids=dialect.render(action, env.tools), turn=number))
        if number + 1 < len(played.turns):
            shown = dialect.observation(result.observation.parts, closed=True)
            segments.append(Segment(kind="observation", ids=shown.ids, turn=number))
    return Context(segments=tuple(segments))
