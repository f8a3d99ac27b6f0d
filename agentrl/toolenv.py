"""The short form of an environment: a task, tool methods, a reward."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, SupportsFloat

import gymnasium
import numpy as np
from gymnasium.spaces import Space

from agentrl.aio import drive, finish, run
from agentrl.environment import CallRecord, Observation, StepResult
from agentrl.errors import InfrastructureError, RewardError, ToolError, ToolFault, unknown
from agentrl.message import Action, Call, Part, Text, ToolResult
from agentrl.reward import as_number, is_correct, read_reward
from agentrl.task import Split, Task
from agentrl.taskspace import Made, Surveys, TaskSpace, fingerprint, plain, survey
from agentrl.toolkit import ToolSpec, is_tool, spec_of

__all__ = ["AnyText", "ToolEnv", "as_parts", "fingerprint", "read_action", "tools_of"]

ADDRESS = re.compile(r" at 0x[0-9a-f]+>")
"""In the text of an object that has none of its own: another one at each run, and no word to a model."""
TEST_SHARE = 5
"""One task in this many is held out for the test split."""


class AnyText(Space[str]):
    """Every string, of any length and script; samples are short and printable."""

    def __init__(self, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(None, np.dtype(str), seed)

    @property
    def is_np_flattenable(self) -> bool:
        """Strings have no fixed size."""
        return False

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> str:
        """Draw a short printable string."""
        length = int(self.np_random.integers(0, 24))
        return "".join(chr(c) for c in self.np_random.integers(32, 127, length))

    def contains(self, x: Any) -> bool:
        """Whether it is a string."""
        return isinstance(x, str)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AnyText)

    __hash__ = None  # type: ignore[assignment]


@dataclass(slots=True)
class Play:
    """Book-keeping of the running episode, apart from the author's own attributes."""

    turn: int = 0
    over: bool = False
    ending: tuple[float, bool] | None = None


class ToolEnv(gymnasium.Env[str, str]):
    """An environment out of three things: `task`, methods marked `@tool`, and `reward`.

    * `task(rng)` draws a task, keeps what it needs in `self`, and returns what the model reads. It is called
      some hundreds of times before the first episode, to see how many tasks there are and which to hold
      out: keep it cheap (load files once, outside of it) and free of side effects.
    * The model calls the tools, possibly several times; what they return is shown to it. A `ToolError` is
      told to it in words.
    * A turn without calls is the final answer; `reward(answer)` judges it. A tool may end the episode with
      `self.end(reward)` instead.

    `task`, tools and `reward` may be `async def`; then the environment runs on the event loop, otherwise in a
    thread of its own, where `close` may be `async def` all the same.

    `expert(observations)` is optional: from what the model has read so far (the task, then one text per
    turn) it gives the next action, `call("tool", arg=…)` or `answer(…)`.

    As a `gymnasium.Env` it takes a final answer as plain text and a call as JSON, `{"name": …,
    "arguments": {…}}`.
    """

    system: ClassVar[str] = ""
    """What the model is told before every task."""
    max_turns: int = 8
    """The episode is truncated after this many actions."""
    levels: ClassVar[tuple[int, ...]] = (0,)
    splits: ClassVar[tuple[Split, ...]] = ("train", "test")
    """Add "ood" where `task` reads `self.split` and draws other families for it."""
    deterministic: ClassVar[bool] = True
    """Equal task and actions give equal observations; allows fork by replay."""
    metadata: dict[str, Any] = {"render_modes": []}

    level: int = 0
    split: Split = "train"
    shared: Any = None
    """What `open_shared` gave; the same object for all instances of a worker."""
    observation_space = AnyText()
    action_space = AnyText()
    _play: Play | None = None
    _made: Made = Made()
    _surveys: ClassVar[Surveys] = Surveys()

    def __new__(cls, *arguments: Any, **settings: Any) -> Self:
        """Remember with what it is made: the split of the tasks must not depend on what was played."""
        if (arguments or settings) and cls.__init__ is object.__init__:
            raise TypeError(f"{cls.__name__} takes no settings: it has no __init__ of its own")
        env = super().__new__(cls)
        env._made = Made(arguments=arguments, settings=settings)
        return env

    @classmethod
    def open_shared(cls, **settings: Any) -> AbstractAsyncContextManager[Any] | None:
        """Open what all instances share (a pool, a server, an index), once per worker; None for nothing."""
        return None

    # What an author writes.

    def task(self, rng: np.random.Generator) -> Any:
        """Draw a task: keep its facts in `self`, return its text (or a list of parts)."""
        raise NotImplementedError(f"{type(self).__name__} needs a method `task(self, rng) -> str`")

    def reward(self, answer: str) -> Any:
        """Judge a final answer: a number in 0..1, where 1 means correct, or a dict of parts to be summed."""
        raise NotImplementedError(f"{type(self).__name__} needs a method `reward(self, answer) -> float`")

    def end(self, reward: float, *, correct: bool | None = None) -> None:
        """End the episode from inside a tool; correct means reward >= 1 unless said otherwise."""
        assert self._play is not None
        value = as_number(reward, "end(reward) takes a float")
        self._play.ending = value, is_correct(value) if correct is None else correct

    # What the rollout uses.

    @property
    def tools(self) -> tuple[ToolSpec, ...]:
        """The tools, by name."""
        return tools_of(self)

    @property
    def is_async(self) -> bool:
        """Whether anything in it is `async def`."""
        kind: Any = type(self)
        return _waits(kind)

    async def begin(self, task: Task) -> Observation:
        """Start the episode of a task."""
        self._play = Play()
        self.level, self.split = task.level, task.split
        shown = await self._draw(task)
        return Observation(parts=as_parts(shown))

    async def act(self, action: Action) -> StepResult:
        """Take one action."""
        play = self._play
        if play is None or play.over:
            raise ToolFault("step after the end of the episode: call reset first")
        play.turn += 1
        if action.is_answer:
            value, parts, correct = await self._judge(action.text)
            play.over = True
            return StepResult(
                observation=Observation(), reward=value, terminated=True, correct=correct, reward_parts=parts
            )
        return await self._call_tools(action, play)

    async def holds_out(self) -> bool:
        """Whether tasks of the test split are kept out of training; too few to be split are not."""
        return not (await self._space()).small

    # Gymnasium.

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start an episode; `options` may hold `split` and `level`."""
        super().reset(seed=seed)
        options = options or {}
        number = int(self.np_random.integers(2**31)) if seed is None else seed
        split, level = options.get("split", "train"), options.get("level", self.levels[0])
        task = Task(id=f"{split}-{level}-{number}", split=split, level=level, seed=number)
        return self._wait(self.begin(task)).text, {"task": task}

    def step(self, action: str | Action) -> tuple[str, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take one action: a final answer as text, or a call as JSON."""
        result = self._wait(self.act(read_action(action) if isinstance(action, str) else action))
        info = {"correct": result.correct, "reward_parts": dict(result.reward_parts), "calls": result.calls}
        return result.observation.text, result.reward, result.terminated, result.truncated, info

    def _wait(self, coroutine: Any) -> Any:
        return run(coroutine) if self.is_async else drive(coroutine)

    # Inside.

    async def _draw(self, task: Task) -> Any:
        """Draw until the task belongs to its split, so that train and test never share one."""
        wanted = {"train": False, "test": True}.get(task.split)
        space = None if wanted is None else await self._space()
        for attempt in range(64):
            shown = await settled(self.task(np.random.default_rng([task.seed, attempt])))
            if space is None or space.small:
                return shown
            if (space.fingerprint(self, shown) % TEST_SHARE == 0) == wanted:
                return shown
        return shown

    async def _space(self) -> TaskSpace:
        """Give the survey of the tasks, made once per class, level and settings."""
        key = type(self), self.level, plain((self._made.arguments, self._made.settings))
        return await self._surveys.get(key, self._survey, on_loop=self.is_async)

    async def _survey(self) -> TaskSpace:
        """Survey the tasks on an untouched instance."""
        kind: Any = type(self)
        scratch = kind(*self._made.arguments, **self._made.settings)
        scratch.shared, scratch.level = self.shared, self.level
        space = await survey(scratch)
        with contextlib.suppress(Exception):  # a faulty close is told when the episode's own ends
            closing = scratch.close()
            if inspect.iscoroutine(closing):
                await closing if self.is_async else finish(closing)
        return space

    async def _judge(self, answer: str) -> tuple[float, dict[str, float], bool]:
        try:
            verdict = await settled(self.reward(answer))
        except InfrastructureError:
            raise
        except ToolError as error:
            raise RewardError(f"reward() raised ToolError({error}): only tools may") from error
        except (Exception, SystemExit) as error:
            raise RewardError(f"reward() raised {type(error).__name__}: {error}") from error
        return read_reward(verdict)

    async def _call_tools(self, action: Action, play: Play) -> StepResult:
        parts: list[Part] = [ToolResult(call_id="", name="", text=m, error=True) for m in action.malformed]
        records = []
        for one in action.calls:
            result, record = await self._call(one)
            parts.append(result)
            records.append(record)
            if play.ending is not None:
                break
        value, correct = play.ending or (0.0, None)
        ended, late = play.ending is not None, play.turn >= self.max_turns
        play.over = ended or late
        return StepResult(
            observation=Observation(parts=tuple(parts)),
            reward=value,
            terminated=ended,
            truncated=late and not ended,
            correct=False if late and not ended else correct,
            calls=tuple(records),
        )

    def _spec(self, name: str) -> ToolSpec:
        kind: Any = type(self)
        specs = _specs(kind)
        if name not in specs:
            raise ToolError(unknown("tool", name, specs))
        return specs[name]

    async def _call(self, one: Call) -> tuple[ToolResult, CallRecord]:
        started = time.perf_counter()
        text, valid, ok = "", False, False
        try:
            arguments = self._spec(one.name).bind(one.arguments)
            valid = True
            text, ok = self._shown(one.name, await settled(getattr(self, one.name)(**arguments))), True
        except ToolError as error:
            text = str(error)
        except InfrastructureError:
            raise
        except (Exception, SystemExit) as error:
            raise ToolFault(f"tool {one.name!r} raised {type(error).__name__}: {error}") from error
        record = CallRecord(call=one, valid=valid, ok=ok, seconds=time.perf_counter() - started)
        return ToolResult(call_id=one.id, name=one.name, text=text, error=not ok), record

    def _shown(self, name: str, value: Any) -> str:
        """Turn what a tool returned into what the model reads."""
        if value is not None:
            text = str(value)
            if not isinstance(value, str) and ADDRESS.search(text):
                raise ToolFault(f"tool {name!r} returned {text[:80]}: return text, a number or plain data")
            return text
        returns = inspect.signature(getattr(self, name)).return_annotation
        ended = self._play is not None and self._play.ending is not None
        if ended or returns in (None, "None"):
            return "done"
        raise ToolFault(f"tool {name!r} returned None: return text or a number, or annotate it `-> None`")


def tools_of(env: Any) -> tuple[ToolSpec, ...]:
    """Read the specifications of all methods marked `@tool`, in order of definition."""
    kind: Any = type(env)
    return tuple(replace(spec, function=getattr(env, name)) for name, spec in _specs(kind).items())


@functools.cache
def _specs(kind: Any) -> Mapping[str, ToolSpec]:
    names: dict[str, None] = {}
    for base in reversed(kind.__mro__):
        names |= dict.fromkeys(n for n, f in vars(base).items() if is_tool(f))
    return {name: spec_of(getattr(kind, name)) for name in names}


@functools.cache
def _waits(kind: Any) -> bool:
    return any(inspect.iscoroutinefunction(getattr(kind, n)) for n in (*_specs(kind), "task", "reward"))


async def settled(value: Any) -> Any:
    """Give the value of something that may be awaitable."""
    return await value if inspect.isawaitable(value) else value


def as_parts(shown: Any) -> tuple[Part, ...]:
    """Turn what an environment shows into parts.

    >>> as_parts("Hello.")
    (Text(text='Hello.'),)

    Raises:
        ToolFault: It is neither text nor parts.
    """
    if isinstance(shown, str):
        return (Text(shown),) if shown else ()
    if isinstance(shown, Part):
        return (shown,)
    if isinstance(shown, Sequence) and not isinstance(shown, (bytes, bytearray)):
        return tuple(part for one in shown for part in as_parts(one))
    raise ToolFault(
        f"an observation of type {type(shown).__name__}: return text, or parts (Text, Image, ToolResult)"
    )


def read_action(text: str) -> Action:
    """Read an action that a person typed: a call as JSON, else an answer.

    >>> read_action('{"name": "price", "arguments": {"item": "pear"}}').calls[0].name
    'price'
    >>> read_action("84").is_answer
    True
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return Action(text=text)
    if isinstance(data, dict) and isinstance(data.get("name"), str):
        arguments = data.get("arguments", {})
        if isinstance(arguments, dict):
            return Action(calls=(Call(id="0", name=data["name"], arguments=arguments),))
        return Action(malformed=(f"arguments of {data['name']!r} must be an object",))
    return Action(text=text)
