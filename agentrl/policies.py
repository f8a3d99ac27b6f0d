"""Policies without a model: the floor, the ceiling, and a person's stand-in for `agentrl bench`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from agentrl.adapter import Adapter, ran
from agentrl.environment import Observation, StepResult
from agentrl.episode import Episode, Failure, Finish, Turn
from agentrl.errors import ConfigError, InfrastructureError, unknown
from agentrl.message import Action, Call
from agentrl.rollout.protocol import Limits
from agentrl.rollout.timed import Timed
from agentrl.rollout.watchdog import Watchdog
from agentrl.task import Task
from agentrl.toolkit import Parameter, ToolSpec

Generator = np.random.Generator
WORD = re.compile(r"\w+")


class OutOfContext(Exception):
    """A policy cannot read any further: an outcome of what it said, as in a rollout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a model would have read and written so far."""

    system: str
    tools: Sequence[ToolSpec]
    first: Observation
    turns: Sequence[Turn] = ()

    @property
    def texts(self) -> list[str]:
        """The words of each observation."""
        return [self.first.text, *(turn.observation.text for turn in self.turns)]


class Policy(Protocol):
    """Chooses the next action from what was seen so far; it serves many episodes at once."""

    async def act(self, seen: Seen, rng: Generator) -> Action:
        """Give the next action.

        Raises:
            OutOfContext: It cannot go on.
        """
        ...


class RandomPolicy:
    """Garbage: random characters, unknown tools, broken arguments. What survives it survives a bad model."""

    async def act(self, seen: Seen, rng: Generator) -> Action:
        """Give the next action."""
        text = "".join(map(chr, rng.integers(32, 1000, int(rng.integers(0, 20)))))
        if rng.random() < 0.3:
            return Action(text=text)
        known = [t.name for t in seen.tools]
        name = str(rng.choice(known)) if known and rng.random() < 0.7 else text
        return Action(calls=(Call(id="0", name=name, arguments={text or "x": text}),))


class ValidRandomPolicy:
    """Actions that fit the schemas, made of the words seen so far: the floor of an environment."""

    async def act(self, seen: Seen, rng: Generator) -> Action:
        """Give the next action."""
        words = [w for text in seen.texts for w in WORD.findall(text)] or ["0"]
        if not seen.tools or rng.random() < 0.3:
            return Action(text=str(rng.choice(words)))
        spec = seen.tools[int(rng.integers(len(seen.tools)))]
        return Action(calls=(Call(id="0", name=spec.name, arguments=random_arguments(spec, words, rng)),))


class ExpertPolicy:
    """The environment's own `expert`, asked on an instance that never saw the task."""

    def __init__(self, env: Any) -> None:
        if not callable(getattr(env, "expert", None)):
            raise ConfigError(
                f"{type(env).__name__} has no expert(observations): write one, or use another policy"
            )
        self._env = env

    async def act(self, seen: Seen, rng: Generator) -> Action:
        """Give the next action."""
        return as_action(await ran(self._env.expert, seen.texts))


def as_action(given: Any) -> Action:
    """Read what `expert` returned: an `Action`, or a final answer.

    >>> as_action(84).text
    '84'
    """
    return given if isinstance(given, Action) else Action(text=str(given))


def random_arguments(spec: ToolSpec, words: Sequence[str], rng: Generator) -> dict[str, Any]:
    """Draw arguments that fit a tool's schema."""
    return {p.name: random_value(p, words, rng) for p in spec.parameters}


def random_value(parameter: Parameter, words: Sequence[str], rng: Generator) -> Any:
    """Draw a value of a parameter's type."""
    if parameter.choices:
        return parameter.choices[int(rng.integers(len(parameter.choices)))]
    held = [] if parameter.element is None else [random_value(parameter.element, words, rng)]
    values: dict[type, Any] = {
        str: str(rng.choice(words)),
        int: int(rng.integers(-10, 100)),
        float: float(rng.normal()),
        bool: bool(rng.integers(2)),
        list: held,
        dict: {str(rng.choice(words)): value for value in held},
    }
    return values[parameter.type]


def policy_named(name: str, raw: Callable[[], Any]) -> Policy:
    """Find a policy that needs no model.

    Raises:
        ConfigError: There is none of this name, or the environment has no expert.
    """
    if name == "expert":
        return ExpertPolicy(raw())
    simple: dict[str, type[RandomPolicy] | type[ValidRandomPolicy]] = {
        "random": RandomPolicy,
        "valid-random": ValidRandomPolicy,
    }
    if name not in simple:
        raise ConfigError(unknown("policy", name, [*simple, "expert"]) + ", or a model folder")
    return simple[name]()


async def play(
    env: Adapter,
    task: Task,
    policy: Policy,
    *,
    seed: int = 0,
    limits: Limits | None = None,
    watchdog: Watchdog | None = None,
) -> Episode:
    """Play one episode without a model; it has turns but no tokens.

    Raises:
        InfrastructureError: The environment did not start, in time or at all; later failures are data.
    """
    limits = limits or Limits()
    timed = Timed(env=env, id=task.id, limits=limits, watchdog=watchdog or Watchdog())
    rng = np.random.default_rng([task.seed, seed])
    turns: list[Turn] = []
    failure: Failure | None = None
    last = StepResult(observation=await timed.start(task))
    first, reward, full = last.observation, 0.0, False
    try:
        while not last.done and len(turns) < limits.turns_of(env):
            seen = Seen(system=env.system, tools=env.tools, first=first, turns=turns)
            action = await policy.act(seen, rng)
            last = await timed.act(action)
            reward += last.reward
            turns.append(as_turn(len(turns), action, last))
    except OutOfContext:
        full = True
    except InfrastructureError as error:
        failure = Failure.of(error, turn=len(turns))
    return Episode(
        id=task.id,
        task_id=task.id,
        group_id=task.id,
        finish="max_context" if full else finish_of(last, failure),
        contexts=(),
        turns=tuple(turns),
        first=first,
        reward=reward,
        correct=None if failure else bool(last.correct),
        failure=failure,
        isolation=env.isolation,
    )


def as_turn(index: int, action: Action, result: StepResult) -> Turn:
    """Record one step."""
    return Turn(
        index=index,
        action=action,
        observation=result.observation,
        reward=result.reward,
        reward_parts=result.reward_parts,
        calls=result.calls,
    )


def finish_of(last: StepResult, failure: Failure | None) -> Finish:
    """Name how an episode ended."""
    if failure is not None:
        return "failed"
    return "terminated" if last.terminated else "truncated" if last.truncated else "max_turns"
